package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// clockLeeway is how far the clocks of who signs tokens and of this machine may be apart.
const clockLeeway = 30 * time.Second

// Tokens signs and verifies bearer tokens: JWTs (RFC 7519) signed with HS256, whose sub is the user's id and whose exp is required.
type Tokens struct {
	secret []byte
	parser *jwt.Parser
}

// NewTokens returns an error if the secret is empty.
func NewTokens(secret []byte) (*Tokens, error) {
	if len(secret) == 0 {
		return nil, errors.New("JWT_SECRET is not set: it is the secret that tokens are signed with")
	}
	return &Tokens{
		secret: secret,
		parser: jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithExpirationRequired(), jwt.WithLeeway(clockLeeway)),
	}, nil
}

// Sign returns a token for the user that expires after lifetime.
func (t *Tokens) Sign(user pgtype.UUID, lifetime time.Duration) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: user.String(), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
	}).SignedString(t.secret)
}

// Verify returns the user that a token was signed for.
func (t *Tokens) Verify(token string) (pgtype.UUID, error) {
	var claims jwt.RegisteredClaims
	if _, err := t.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return t.secret, nil }); err != nil {
		return pgtype.UUID{}, err
	}
	user, err := ParseUUID(claims.Subject)
	if err != nil {
		return pgtype.UUID{}, fmt.Errorf("sub: %w", err)
	}
	return user, nil
}

type userKey struct{}

// authenticate lets a request pass that has a valid token, and keeps its user for callerOf.
func (s *server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		user, err := s.tokens.Verify(strings.TrimSpace(token))
		if err != nil || !strings.EqualFold(scheme, "Bearer") {
			s.fail(w, r, errUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

// callerOf returns the user of a request that has passed authenticate.
func callerOf(r *http.Request) pgtype.UUID {
	user, _ := r.Context().Value(userKey{}).(pgtype.UUID)
	return user
}
