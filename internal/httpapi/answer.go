package httpapi

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Where an answer comes from, as the header Daybook-Source says.
const (
	sourceRollup = "rollup"
	sourceLive   = "live"   // the facts, while a rebuild for a new zone is pending
	sourceHost   = "source" // the host's tables, because the operator said so
)

const (
	contentTypeJSON = "application/json; charset=utf-8"
	contentTypeCSV  = "text/csv; charset=utf-8"
)

// vary names what an answer depends on beside its URL.
const vary = "Accept, Authorization, Cookie, X-Workspace-Slug, X-Workspace-Id"

// format is the format of an answer.
type format int

const (
	formatAny format = iota // as the request accepts
	formatJSON
	formatCSV
)

// of returns the format for a request: JSON, unless it says that it likes CSV better.
func (f format) of(r *http.Request) format {
	if f != formatAny {
		return f
	}
	// A list may be in several headers.
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	if strings.Contains(accept, "text/csv") && prefersCSV(accept) {
		return formatCSV
	}
	return formatJSON
}

// prefersCSV compares what an Accept header (RFC 9110, section 12.5.1) says of text/csv and of application/json. Of two that are
// equal, the first named wins.
func prefersCSV(accept string) bool {
	quality := make(map[string]float64)
	csvFirst := true
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if given, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(given, 64); err != nil {
				continue
			}
		}
		quality[media] = q
		if _, csv := quality["text/csv"]; media == "application/json" && !csv {
			csvFirst = false
		}
	}
	json, ok := quality["application/json"]
	for _, wider := range []string{"application/*", "*/*"} {
		if !ok {
			json, ok = quality[wider]
		}
	}
	csv := quality["text/csv"]
	return csv > json || (csv == json && csv > 0 && csvFirst)
}

// usageHeader is what a usage answer says of its quality.
type usageHeader struct {
	zone, source string
	lag          float64 // seconds
	lagKnown     bool
}

// document is the body of an answer. Those who ask the same at the same moment get the same one: nobody may change it.
type document struct {
	contentType, tag string
	body             []byte
}

func newDocument(contentType string, body []byte) document {
	return document{contentType, `W/"` + strconv.FormatUint(xxhash.Sum64(body), 16) + `"`, body}
}

// answerUsage answers with the document, or with 304 if the client has it already.
func answerUsage(w http.ResponseWriter, r *http.Request, u usageHeader, d document) {
	h := w.Header()
	h.Set("Daybook-Timezone", u.zone)
	h.Set("Daybook-Source", u.source)
	if u.lagKnown {
		h.Set("Daybook-Lag-Seconds", strconv.FormatFloat(u.lag, 'f', 3, 64))
	}
	answerPrivately(w, r, d)
}

// answerPrivately answers with what is for one caller, tagged, so that it need not be sent twice.
func answerPrivately(w http.ResponseWriter, r *http.Request, d document) {
	h := w.Header()
	h.Set("Cache-Control", "private")
	h.Add("Vary", vary)
	h.Set("ETag", d.tag)
	if isRead(r) && matches(r.Header.Values("If-None-Match"), d.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", d.contentType)
	h.Set("Content-Length", strconv.Itoa(len(d.body))) // Else a long one is sent in chunks.
	w.Write(d.body)                                    //nolint:errcheck // The client is gone; there is nobody to tell.
}

// matches compares the tags of If-None-Match weakly (RFC 9110, section 8.8.3.2).
func matches(header []string, tag string) bool {
	for _, list := range header {
		for candidate := range strings.SplitSeq(list, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}
