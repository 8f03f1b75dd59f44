package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// cookieName is the cookie in which the host's own pages keep the same JWT. It is taken for reading only, because a browser sends it
// along with requests that other sites make.
const cookieName = "multica_auth"

// caller is who asks: a user, or whoever a personal access token belongs to, which the statement that reads finds out.
type caller struct {
	user      pgtype.UUID
	tokenHash pgtype.Text
}

// authenticate lets a request pass that has a token, and keeps its caller for callerOf.
func (s *API) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.identifyCaller(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		info := infoOf(r)
		info.caller, info.user = c, c.user
		next.ServeHTTP(w, r)
	})
}

// identifyCaller reads the Authorization header and, only if there is none, the cookie.
func (s *API) identifyCaller(r *http.Request) (caller, error) {
	token, ok := bearerToken(r)
	if !ok {
		return caller{}, errUnauthorized
	}
	if strings.HasPrefix(token, accessTokenPrefix) {
		return caller{tokenHash: pgtype.Text{String: hashAccessToken(token), Valid: true}}, nil
	}
	user, err := s.config.Tokens.Verify(r.Context(), token)
	if errors.Is(err, errKeysAway) {
		return caller{}, errNoKeys
	}
	if err != nil {
		return caller{}, errUnauthorized
	}
	return caller{user: user}, nil
}

func bearerToken(r *http.Request) (token string, ok bool) {
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		scheme, token, _ := strings.Cut(header[0], " ")
		return strings.TrimSpace(token), len(header) == 1 && strings.EqualFold(scheme, "Bearer")
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil || !isRead(r) || strings.HasPrefix(cookie.Value, accessTokenPrefix) {
		return "", false
	}
	return cookie.Value, true
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// callerOf returns the caller of a request that has passed authenticate.
func callerOf(r *http.Request) caller { return infoOf(r).caller }
