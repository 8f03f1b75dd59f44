package httpapi

import (
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// recentTokens remembers the users of tokens that were good lately, each until a moment of its own. When there are too many it forgets
// them all: whether a token is good can be found out again. Goroutines may share it.
type recentTokens struct {
	mu     sync.Mutex
	tokens map[string]recentToken
}

type recentToken struct {
	user  pgtype.UUID
	until time.Time
}

// maxRecentTokens bounds the tokens that are remembered.
const maxRecentTokens = 10_000

func newRecentTokens() *recentTokens { return &recentTokens{tokens: make(map[string]recentToken)} }

// userOf returns the user of a token that is remembered now.
func (r *recentTokens) userOf(token string, now time.Time) (user pgtype.UUID, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tokens[token]
	return t.user, ok && now.Before(t.until)
}

func (r *recentTokens) remember(token string, user pgtype.UUID, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tokens) >= maxRecentTokens {
		clear(r.tokens)
	}
	r.tokens[token] = recentToken{user, until}
}
