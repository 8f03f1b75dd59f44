package httpapi

import (
	"errors"
	"net/http"
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
	if len(s) != 36 || id.Scan(s) != nil {
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

// daysParam returns the query parameter days, or byDefault if it is not given.
func daysParam(r *http.Request, byDefault int32) (int32, error) {
	query := r.URL.Query()
	if !query.Has("days") {
		return byDefault, nil
	}
	days, err := strconv.ParseInt(query.Get("days"), 10, 32)
	if err != nil || days < minDays || days > maxDays {
		return 0, badRequest("days must be a whole number from 1 to 365")
	}
	return int32(days), nil
}
