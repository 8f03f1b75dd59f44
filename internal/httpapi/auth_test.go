package httpapi_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

)

func TestMembersOfEveryRoleGetAnAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	for _, user := range []string{owner, admin, member} {
		b.get(t, user, usagePath(runtime, "")).require(t, http.StatusOK)
	}
}

func TestOthersGetTheSameAsForAnUnknownRuntime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	b.addUsage(t, runtime, "UTC", "now()", "p", "m", [4]int64{1, 1, 1, 1})
	b.drain(t)
	const unknown = "00000000-0000-4000-8000-0000000000ff"
	want := b.get(t, owner, usagePath(unknown, ""))
	want.require(t, http.StatusNotFound)
	want.requireGolden(t, "runtime_not_found")
	want.header.Del("Date")
	for name, a := range map[string]answer{
		"another tenant":              b.get(t, stranger, usagePath(runtime, "")),
		"no tenant":                   b.get(t, outsider, usagePath(runtime, "")),
		"no such user":                b.get(t, unknown, usagePath(runtime, "")),
		"a member who has left":       b.getAfterLeaving(t, member, runtime),
		"other case, of another's":    b.get(t, stranger, usagePath(strings.ToUpper(runtime), "")),
		"another tenant, with a zone": b.getWhilePending(t, stranger, runtime),
	} {
		a.require(t, http.StatusNotFound)
		a.header.Del("Date")
		if a.body != want.body {
			t.Errorf("%s: body is %q, want %q", name, a.body, want.body)
		}
		for key := range a.header {
			if a.header.Get(key) != want.header.Get(key) {
				t.Errorf("%s: %s is %q, want %q", name, key, a.header.Get(key), want.header.Get(key))
			}
		}
	}
}

func (b *bundle) getAfterLeaving(t *testing.T, user, runtime string) answer {
	t.Helper()
	exec(t, b.pool, `DELETE FROM public.member WHERE user_id = $1`, user)
	return b.get(t, user, usagePath(runtime, ""))
}

func (b *bundle) getWhilePending(t *testing.T, user, runtime string) answer {
	t.Helper()
	b.setZone(t, runtime, "Asia/Tokyo")
	return b.get(t, user, usagePath(runtime, ""))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := usagePath(b.addRuntime(t, "UTC"), "")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := jwt.MapClaims{"sub": owner, "exp": now.Add(time.Hour).Unix()}
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	hs256 := func(claims jwt.MapClaims) string { return sign(jwt.SigningMethodHS256, []byte(secret), claims) }
	parts := strings.Split(hs256(good), ".")
	forged := strings.Split(hs256(jwt.MapClaims{"sub": admin, "exp": now.Add(time.Hour).Unix()}), ".")

	for name, header := range map[string]string{
		"good":                     "Bearer " + hs256(good),
		"scheme in lower case":     "bearer " + hs256(good),
		"expired within leeway":    "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": now.Add(-5 * time.Second).Unix()}),
		"sub in upper case":        "Bearer " + hs256(jwt.MapClaims{"sub": strings.ToUpper(owner), "exp": now.Add(time.Hour).Unix()}),
		"issued by a faster clock": "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": now.Add(time.Hour).Unix(), "nbf": now.Add(5 * time.Second).Unix()}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.do(t, http.MethodGet, path, http.Header{"Authorization": {header}}).require(t, http.StatusOK)
		})
	}
	for name, header := range map[string]string{
		"none":              "",
		"scheme alone":      "Bearer",
		"empty token":       "Bearer ",
		"garbage":           "Bearer garbage",
		"three dots":        "Bearer ...",
		"no scheme":         hs256(good),
		"other scheme":      "Basic " + hs256(good),
		"two tokens":        "Bearer " + hs256(good) + " " + hs256(good),
		"expired":           "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": now.Add(-time.Minute).Unix()}),
		"no exp":            "Bearer " + hs256(jwt.MapClaims{"sub": owner}),
		"exp is null":       "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": nil}),
		"exp is zero":       "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": 0}),
		"exp is text":       "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": "2999-01-01"}),
		"not yet good":      "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": now.Add(time.Hour).Unix(), "nbf": now.Add(time.Minute).Unix()}),
		"alg none":          "Bearer " + sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good),
		"RS256":             "Bearer " + sign(jwt.SigningMethodRS256, key, good),
		"HS384":             "Bearer " + sign(jwt.SigningMethodHS384, []byte(secret), good),
		"HS512":             "Bearer " + sign(jwt.SigningMethodHS512, []byte(secret), good),
		"wrong secret":      "Bearer " + sign(jwt.SigningMethodHS256, []byte("another secret that is as long as it"), good),
		"other claims":      "Bearer " + parts[0] + "." + forged[1] + "." + parts[2],
		"no signature":      "Bearer " + parts[0] + "." + parts[1] + ".",
		"no sub":            "Bearer " + hs256(jwt.MapClaims{"exp": now.Add(time.Hour).Unix()}),
		"sub is no UUID":    "Bearer " + hs256(jwt.MapClaims{"sub": "owner", "exp": now.Add(time.Hour).Unix()}),
		"sub is a number":   "Bearer " + hs256(jwt.MapClaims{"sub": 7, "exp": now.Add(time.Hour).Unix()}),
		"sub has no hyphen": "Bearer " + hs256(jwt.MapClaims{"sub": strings.ReplaceAll(owner, "-", "_"), "exp": now.Add(time.Hour).Unix()}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if header != "" {
				h.Set("Authorization", header)
			}
			a := b.do(t, http.MethodGet, path, h)
			a.require(t, http.StatusUnauthorized)
			a.requireGolden(t, "unauthorized")
			if got := a.header.Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
}
