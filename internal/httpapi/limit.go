package httpapi

import (
	"net/http"
	"sync"
)

// limiter bounds the requests that are answered at once, all together and of one caller, and turns others away at once. A queue without
// end would answer everybody too late.
type limiter struct {
	max, maxOfOne int

	mu  sync.Mutex
	all int
	of  map[caller]int
}

// newLimiter takes max requests at once, of which one caller may have half.
func newLimiter(maxRequests int) *limiter {
	return &limiter{max: maxRequests, maxOfOne: (maxRequests + 1) / 2, of: make(map[caller]int)}
}

func (l *limiter) enter(c caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.all >= l.max:
		return errTooMany
	case l.of[c] >= l.maxOfOne:
		return errTooManyOfYours
	}
	l.all++
	l.of[c]++
	return nil
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
		if err := s.limiter.enter(c); err != nil {
			s.fail(w, r, err)
			return
		}
		defer s.limiter.leave(c)
		next.ServeHTTP(w, r)
	})
}
