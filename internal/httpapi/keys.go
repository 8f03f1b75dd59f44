package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// keysTimeout bounds one request for the set of keys, keysRefresh is the time between two.
	keysTimeout = 2 * time.Second
	keysRefresh = 15 * time.Minute
	// keysRetry is the least time between two requests that tokens cause, so that made-up keys cannot overrun the signer.
	keysRetry = 5 * time.Second
)

// errKeysAway means that a token cannot be judged, because the keys are not there yet.
var errKeysAway = errors.New("the set of keys has not been fetched yet")

// keySet is the set of public keys at a URL (RFC 7517). A set that was fetched stays until the next one is.
type keySet struct {
	url    string
	logger *slog.Logger
	stored jwkset.Storage
	find   keyfunc.Keyfunc

	mu    sync.Mutex // also keeps requests for the set from running side by side
	tried time.Time
}

// newKeySet fetches the set, and goes on without it if that fails. ctx ends the refreshing.
func newKeySet(ctx context.Context, address string, logger *slog.Logger) (*keySet, error) {
	if u, err := url.Parse(address); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("DAYBOOK_JWKS_URL must be an http or https URL, not %q", address)
	}
	k := &keySet{url: address, logger: logger, stored: jwkset.NewMemoryStorage()}
	var err error
	if k.find, err = keyfunc.New(keyfunc.Options{Storage: k.stored}); err != nil {
		return nil, err
	}
	k.refresh(ctx, 0)
	go func() {
		ticker := time.NewTicker(keysRefresh)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				k.refresh(ctx, 0)
			}
		}
	}()
	return k, nil
}

// refresh fetches the set, unless that was tried less than atLeast ago. It returns false if another request is at it: waiting for that
// one, requests would queue up.
func (k *keySet) refresh(ctx context.Context, atLeast time.Duration) bool {
	if !k.mu.TryLock() {
		return false
	}
	defer k.mu.Unlock()
	if !k.tried.IsZero() && time.Since(k.tried) < atLeast {
		return true
	}
	k.tried = time.Now()
	// The library fetches a set when it makes a storage of it.
	_, err := jwkset.NewStorageFromHTTP(k.url, jwkset.HTTPClientStorageOptions{
		Ctx: context.WithoutCancel(ctx), HTTPTimeout: keysTimeout, Storage: k.stored,
	})
	if err != nil {
		k.logger.ErrorContext(ctx, "the keys of tokens could not be fetched; trying again", slog.Any("error", err))
	}
	return true
}

// keyOf returns the key of a token, or all keys if it names none. A key that is not known may be new, so the set is fetched.
func (k *keySet) keyOf(ctx context.Context, token *jwt.Token) (any, error) {
	key, err := k.find.KeyfuncCtx(ctx)(token)
	if err != nil || k.empty(ctx) {
		if !k.refresh(ctx, keysRetry) {
			return nil, errKeysAway
		}
		key, err = k.find.KeyfuncCtx(ctx)(token)
	}
	if k.empty(ctx) {
		return nil, errKeysAway
	}
	return key, err
}

func (k *keySet) empty(ctx context.Context) bool {
	all, err := k.stored.KeyReadAll(ctx)
	return err != nil || len(all) == 0
}
