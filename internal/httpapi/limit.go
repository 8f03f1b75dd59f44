package httpapi

import (
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// limiter bounds the requests that are answered at once, all together and of one caller, and turns others away at once. A queue without
// end would answer everybody too late.
type limiter struct {
	max, maxOfOne, maxOfStrangers int

	good *recentTokens // personal access tokens, by hash

	mu  sync.Mutex
	all int
	of  map[caller]int
}

// strangers stands for all personal access tokens that have not been good lately. They may be made up, and each that is made up would
// be another caller.
var strangers = caller{tokenHash: pgtype.Text{Valid: true}}

// goodFor is how long a personal access token that was good counts as a caller of its own. It is looked up for every request all the
// same.
const goodFor = time.Minute

// newLimiter takes max requests at once, of which one caller may have half, and strangers a quarter together.
func newLimiter(maxRequests int) *limiter {
	return &limiter{
		max: maxRequests, maxOfOne: (maxRequests + 1) / 2, maxOfStrangers: (maxRequests + 3) / 4,
		good: newRecentTokens(), of: make(map[caller]int),
	}
}

// enter returns whom the request counts for, for leave.
func (l *limiter) enter(c caller) (caller, error) {
	most, full := l.maxOfOne, errTooManyOfYours
	if c.tokenHash.Valid {
		if _, good := l.good.userOf(c.tokenHash.String, time.Now()); !good {
			c, most, full = strangers, l.maxOfStrangers, errTooMany
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.all >= l.max:
		return c, errTooMany
	case l.of[c] >= most:
		return c, full
	}
	l.all++
	l.of[c]++
	return c, nil
}

func (l *limiter) leave(c caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.of[c]--; l.of[c] == 0 {
		delete(l.of, c)
	}
}

// limitLoad is for requests that have passed authenticate.
func (s *API) limitLoad(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r)
		counted, err := s.limiter.enter(c)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		defer s.limiter.leave(counted)
		next.ServeHTTP(w, r)
		if user := infoOf(r).user; c.tokenHash.Valid && user.Valid {
			s.limiter.good.remember(c.tokenHash.String, user, time.Now().Add(goodFor))
		}
	})
}
