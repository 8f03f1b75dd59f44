package httpapi

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

func TestRecentTokens(t *testing.T) {
	t.Parallel()
	now := time.Now()
	until := now.Add(time.Minute)
	r := newRecentTokens()
	require := func(token string, at time.Time, want bool) {
		t.Helper()
		user, ok := r.userOf(token, at)
		if ok != want || (ok && user != userNamed(token)) {
			t.Errorf("%s: %s, %v, want %v", token, user, ok, want)
		}
	}
	require("a", now, false)
	r.remember("a", userNamed("a"), until)
	r.remember("b", userNamed("b"), until.Add(time.Minute))
	require("a", until.Add(-1), true)
	require("a", until, false)
	require("b", until, true)
	for i := range maxRecentTokens - 2 {
		r.remember(strconv.Itoa(i), pgtype.UUID{}, until)
	}
	require("b", now, true)
	r.remember("one too many", userNamed("one too many"), until)
	require("b", now, false)
	require("one too many", now, true)
}

func userNamed(name string) pgtype.UUID {
	id := pgtype.UUID{Valid: true}
	copy(id.Bytes[:], name)
	return id
}
