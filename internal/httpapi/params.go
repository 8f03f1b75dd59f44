package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	minDays = 1
	maxDays = 365
)

// ParseUUID takes the usual form of a UUID, 36 characters with hyphens, and no other.
func ParseUUID(s string) (pgtype.UUID, error) {
	var id pgtype.UUID
	// Scan does not look at the hyphens.
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || id.Scan(s) != nil {
		return pgtype.UUID{}, errors.New("not a UUID")
	}
	return id, nil
}

func runtimeIDParam(r *http.Request) (pgtype.UUID, error) {
	id, err := ParseUUID(chi.URLParam(r, "runtimeId"))
	if err != nil {
		return id, badRequest("the runtime id must be a UUID, such as 0190163d-8694-739b-aea5-966c26f8ad91")
	}
	return id, nil
}

// daysParam returns the query parameter days, or byDefault if it is not given. Given twice, it is not clear what is meant.
func daysParam(r *http.Request, byDefault int32) (int32, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		// URL.Query would leave out what it cannot read, and the answer would be for the default.
		return 0, badRequest("the query string is malformed")
	}
	if !query.Has("days") {
		return byDefault, nil
	}
	days, err := strconv.ParseInt(query.Get("days"), 10, 32)
	if err != nil || len(query["days"]) > 1 || days < minDays || days > maxDays {
		return 0, badRequest("days must be one whole number from 1 to 365")
	}
	return int32(days), nil
}
