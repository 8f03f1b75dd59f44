package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// MinSecret is the length in bytes of a secret that is as strong as HS256 (RFC 7518, section 3.2).
	MinSecret = 32
	// DefaultLeeway is how far the clocks of who signs tokens and of this machine may be apart.
	DefaultLeeway = 30 * time.Second
	// MaxLeeway is how far they may be allowed to be.
	MaxLeeway = 60 * time.Second

	// accessTokenPrefix is what personal access tokens begin with.
	accessTokenPrefix = "mul_"
)

var (
	secretAlgorithms = []string{jwt.SigningMethodHS256.Alg()}
	keyAlgorithms    = []string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg()}
)

// TokenConfig says which JWTs (RFC 7519) are good. sub is the user's id, exp is required.
type TokenConfig struct {
	// Secret verifies HS256: 32 bytes or more. Secret or JWKSURL is required; both may be given.
	Secret []byte
	// AllowShortSecret takes a shorter one too, for trying out.
	AllowShortSecret bool
	// JWKSURL is where the set of public keys (RFC 7517) for RS256, ES256 and EdDSA is. It is fetched at start, every 15 minutes, and
	// when a token names a key that is not known.
	JWKSURL string
	// Algorithms are the only ones taken. Default: all that Secret and JWKSURL can verify.
	Algorithms []string
	// Issuer and Audience must be the token's, if they are set. Default: not checked.
	Issuer, Audience string
	// Leeway is how far clocks may be apart, at most MaxLeeway. Zero is no leeway.
	Leeway time.Duration
	// Logger is told when the keys cannot be fetched. Required with JWKSURL.
	Logger *slog.Logger
}

// Tokens verifies JWTs.
type Tokens struct {
	config TokenConfig
	keys   *keySet // nil without JWKSURL
	parser *jwt.Parser
	// recent spares verifying: a dashboard sends the same token with every request.
	recent *recentTokens
}

// verifiedFor bounds how long a token is taken to be good, for its key may be withdrawn. Its own exp ends it sooner.
const verifiedFor = 10 * time.Second

// NewTokens returns an error for a configuration that cannot verify a token or is not safe. It waits for the keys, for 2 s at most,
// and goes on without them. ctx ends their refreshing.
func NewTokens(ctx context.Context, config TokenConfig) (*Tokens, error) {
	var able []string
	if len(config.Secret) > 0 {
		if len(config.Secret) < MinSecret && !config.AllowShortSecret {
			return nil, fmt.Errorf("JWT_SECRET has %d bytes and must have %d or more, or tokens can be forged by guessing it", len(config.Secret), MinSecret)
		}
		able = append(able, secretAlgorithms...)
	}
	if config.JWKSURL != "" {
		able = append(able, keyAlgorithms...)
	}
	if len(able) == 0 {
		return nil, errors.New("neither JWT_SECRET nor DAYBOOK_JWKS_URL is set: one is needed to verify tokens")
	}
	if len(config.Algorithms) == 0 {
		config.Algorithms = able
	}
	for _, algorithm := range config.Algorithms {
		if !slices.Contains(able, algorithm) {
			return nil, fmt.Errorf("algorithm %q cannot be verified: JWT_SECRET is for %s, DAYBOOK_JWKS_URL is for %s",
				algorithm, strings.Join(secretAlgorithms, ", "), strings.Join(keyAlgorithms, ", "))
		}
	}
	if config.Leeway < 0 || config.Leeway > MaxLeeway {
		return nil, fmt.Errorf("the leeway of tokens must be from 0 to %s, not %s", MaxLeeway, config.Leeway)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(config.Algorithms), jwt.WithExpirationRequired(), jwt.WithLeeway(config.Leeway),
	}
	if config.Issuer != "" {
		options = append(options, jwt.WithIssuer(config.Issuer))
	}
	if config.Audience != "" {
		options = append(options, jwt.WithAudience(config.Audience))
	}
	t := &Tokens{config: config, parser: jwt.NewParser(options...), recent: newRecentTokens()}
	if config.JWKSURL != "" {
		var err error
		if t.keys, err = newKeySet(ctx, config.JWKSURL, config.Logger); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Verify returns the user that a token was signed for.
func (t *Tokens) Verify(ctx context.Context, token string) (pgtype.UUID, error) {
	now := time.Now()
	if user, ok := t.recent.userOf(token, now); ok {
		return user, nil
	}
	var claims jwt.RegisteredClaims
	if _, err := t.parser.ParseWithClaims(token, &claims, func(token *jwt.Token) (any, error) { return t.keyOf(ctx, token) }); err != nil {
		return pgtype.UUID{}, err
	}
	user, err := ParseUUID(claims.Subject)
	if err != nil {
		return pgtype.UUID{}, fmt.Errorf("sub: %w", err)
	}
	until := now.Add(verifiedFor)
	if exp := claims.ExpiresAt.Time; exp.Before(until) {
		until = exp
	}
	t.recent.remember(token, user, until)
	return user, nil
}

// keyOf returns the key for a token whose algorithm is one of the configured. A secret never verifies what a key should, nor
// the other way round.
func (t *Tokens) keyOf(ctx context.Context, token *jwt.Token) (any, error) {
	if slices.Contains(secretAlgorithms, token.Method.Alg()) {
		return t.config.Secret, nil
	}
	return t.keys.keyOf(ctx, token)
}

// SignToken returns a JWT for the user, signed with HS256, that expires after lifetime. Issuer and audience may be empty.
func SignToken(secret []byte, user pgtype.UUID, issuer, audience string, lifetime time.Duration) (string, error) {
	now := time.Now()
	claims := jwt.RegisteredClaims{
		Subject: user.String(), Issuer: issuer, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
	}
	if audience != "" {
		claims.Audience = jwt.ClaimStrings{audience}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
}

// hashAccessToken returns what the host keeps of a personal access token: its SHA-256 in hex.
func hashAccessToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
