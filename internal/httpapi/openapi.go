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

// serveDocs serves the page and what it loads.
func (s *API) serveDocs(w http.ResponseWriter, r *http.Request) error {
	docs.ServeHTTP(&notFoundWriter{ResponseWriter: w, instead: func() { s.fail(w, r, errNotFound) }}, r)
	return nil
}

// notFoundWriter answers instead of a handler that does not find what it serves.
type notFoundWriter struct {
	http.ResponseWriter
	instead func()
	done    bool
}

func (w *notFoundWriter) WriteHeader(status int) {
	if w.done = status == http.StatusNotFound; w.done {
		w.Header().Del("X-Content-Type-Options")
		w.instead()
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *notFoundWriter) Write(b []byte) (int, error) {
	if w.done {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(OpenAPI) //nolint:errcheck // The client is gone; there is nobody to tell.
}
