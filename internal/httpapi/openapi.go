package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// OpenAPI is the description of the API (OpenAPI 3.1), in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte

// docs is a page to read the description and to try the API out. All that it loads is in the binary.
var docs = v5emb.NewHandlerWithConfig(swgui.Config{
	Title: "Daybook API", SwaggerJSON: "/openapi.yaml", BasePath: "/docs",
	SettingsUI: map[string]string{"validatorUrl": "null", "persistAuthorization": "false"},
})

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(OpenAPI) //nolint:errcheck // The client is gone; there is nobody to tell.
}
