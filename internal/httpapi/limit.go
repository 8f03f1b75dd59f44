package httpapi

import (
	"net/http"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"
)

// limiter bounds the requests that are answered at once, all together and of one caller, and turns others away at once. A queue without
// end would answer everybody too late.
type limiter struct {
	max, maxOfOne int

	mu  sync.Mutex
	all int
	of  map[caller]int
}

// anyToken stands for all personal access tokens together. Until a statement has looked one up, it may be made up, and each that is
// made up is another caller.
var anyToken = caller{tokenHash: pgtype.Text{Valid: true}}

// newLimiter takes max requests at once, of which one caller may have half, and so may all personal access tokens together.
func newLimiter(maxRequests int) *limiter {
	return &limiter{max: maxRequests, maxOfOne: (maxRequests + 1) / 2, of: make(map[caller]int)}
}

func (l *limiter) enter(c caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.all >= l.max:
		return errTooMany
	case l.of[c] >= l.maxOfOne, c.tokenHash.Valid && l.of[anyToken] >= l.maxOfOne:
		return errTooManyOfYours
	}
	l.add(c, 1)
	return nil
}

func (l *limiter) leave(c caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(c, -1)
}

func (l *limiter) add(c caller, n int) {
	l.all += n
	keys := []caller{c}
	if c.tokenHash.Valid {
		keys = append(keys, anyToken)
	}
	for _, key := range keys {
		if l.of[key] += n; l.of[key] == 0 {
			delete(l.of, key)
		}
	}
}

// limitLoad is for requests that have passed authenticate.
func (s *API) limitLoad(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r)
		if err := s.limiter.enter(c); err != nil {
			s.fail(w, r, err)
			return
		}
		defer s.limiter.leave(c)
		next.ServeHTTP(w, r)
	})
}
