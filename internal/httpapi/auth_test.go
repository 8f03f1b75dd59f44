package httpapi_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
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

	// Not in the table: its tests may have to wait for their turn for longer than the leeway.
	late := hs256(jwt.MapClaims{"sub": owner, "exp": time.Now().Add(-5 * time.Second).Unix()})
	b.do(t, http.MethodGet, path, http.Header{"Authorization": {"Bearer " + late}}).require(t, http.StatusOK)

	for name, header := range map[string]string{
		"good":                     "Bearer " + hs256(good),
		"scheme in lower case":     "bearer " + hs256(good),
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
		"not yet good":      "Bearer " + hs256(jwt.MapClaims{"sub": owner, "exp": now.Add(time.Hour).Unix(), "nbf": now.Add(time.Hour).Unix()}),
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

func TestCookie(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b = serveWithWrites(t, b.pool)
	id := b.addUnused(t)
	cookie := func(value string) http.Header { return http.Header{"Cookie": {"theme=dark; multica_auth=" + value}} }
	with := func(header http.Header, authorization string) http.Header {
		header.Set("Authorization", authorization)
		return header
	}
	access := b.addAccessToken(t, owner)
	for name, test := range map[string]struct {
		header http.Header
		status int
	}{
		"good":                           {cookie(token(t, owner)), http.StatusOK},
		"of a stranger":                  {cookie(token(t, stranger)), http.StatusNotFound},
		"garbage":                        {cookie("garbage"), http.StatusUnauthorized},
		"empty":                          {cookie(""), http.StatusUnauthorized},
		"with a scheme":                  {cookie("Bearer " + token(t, owner)), http.StatusUnauthorized},
		"expired":                        {cookie(signHS256(t, []byte(secret), withClaim("exp", time.Now().Add(-time.Hour).Unix()))), http.StatusUnauthorized},
		"access token":                   {cookie(access), http.StatusUnauthorized},
		"another cookie":                 {http.Header{"Cookie": {"multica=" + token(t, owner)}}, http.StatusUnauthorized},
		"Authorization wins":             {with(cookie("garbage"), "Bearer "+token(t, owner)), http.StatusOK},
		"Authorization wins, bad":        {with(cookie(token(t, owner)), "Bearer garbage"), http.StatusUnauthorized},
		"Authorization wins, other user": {with(cookie(token(t, owner)), "Bearer "+token(t, stranger)), http.StatusNotFound},
		"Authorization wins, no bearer":  {with(cookie(token(t, owner)), "Basic b3duZXI6b3duZXI="), http.StatusUnauthorized},
		"Authorization wins, access":     {with(cookie("garbage"), "Bearer "+access), http.StatusOK},
	} {
		for _, path := range []string{"/api/runtimes/" + id, usagePath(id, ""), "/api/usage/daily.csv?workspace_slug=acme"} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if a := b.do(t, method, path, test.header); a.status != test.status {
					t.Errorf("%s, %s %s: status is %d, want %d; body %s", name, method, path, a.status, test.status, a.body)
				}
			}
		}
	}
	// A browser sends it along with what other sites ask for, so it must not change anything.
	for _, method := range []string{http.MethodPatch, http.MethodDelete, http.MethodPost} {
		b.doBody(t, method, "/api/runtimes/"+id, cookie(token(t, owner)), `{"visibility":"public"}`).require(t, http.StatusUnauthorized)
	}
	if got := query[string](t, b.pool, `SELECT visibility FROM public.agent_runtime WHERE id = $1`, id); got != "private" {
		t.Errorf("visibility is %q", got)
	}
	b.doBody(t, http.MethodPatch, "/api/runtimes/"+id, with(cookie("garbage"), "Bearer "+token(t, owner)), `{"visibility":"public"}`).
		require(t, http.StatusOK)
}

func TestAccessTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b = serveWithWrites(t, b.pool)
	id := b.addUnused(t)
	sha := func(token string) string {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:])
	}
	// Expires is SQL.
	add := func(user, hash, expires string, revoked bool) {
		exec(t, b.pool, `INSERT INTO public.personal_access_token (user_id, token_hash, expires_at, revoked) VALUES ($1, $2, `+expires+`, $3)`,
			user, hash, revoked)
	}
	add(owner, sha("mul_good"), "now() + interval '1 hour'", false)
	add(owner, sha("mul_forever"), "NULL", false)
	add(owner, sha("mul_infinite"), "'infinity'", false)
	add(owner, sha("mul_"), "NULL", false)
	add(owner, sha("mul_ö\u00a0§"), "NULL", false)
	add(owner, sha("mul_revoked"), "NULL", true)
	add(owner, sha("mul_revoked_good"), "now() + interval '1 hour'", true)
	add(owner, sha("mul_expired"), "now() - interval '1 microsecond'", false)
	add(owner, sha("mul_long_ago"), "'-infinity'", false)
	add(stranger, sha("mul_stranger"), "NULL", false)
	add(outsider, sha("mul_outsider"), "NULL", false)
	add(owner, "mul_plain", "NULL", false)
	add(owner, strings.ToUpper(sha("mul_upper")), "NULL", false)
	add(owner, sha("without_prefix"), "NULL", false)

	for token, status := range map[string]int{
		"mul_good": 200, "mul_forever": 200, "mul_infinite": 200, "mul_": 200, "mul_ö\u00a0§": 200,
		"mul_revoked": 401, "mul_revoked_good": 401, "mul_expired": 401, "mul_long_ago": 401,
		"mul_unknown": 401, "mul_good ": 200, "mul_goo": 401, "mul_goodd": 401, "MUL_good": 401, "mul_GOOD": 401,
		"mul_plain": 401, "mul_upper": 401, "without_prefix": 401, sha("mul_good"): 401, "mul_" + sha("mul_good"): 401,
		"mul_stranger": 404, "mul_outsider": 404,
	} {
		header := http.Header{"Authorization": {"Bearer " + token}}
		for _, path := range []string{"/api/runtimes/" + id, usagePath(id, ""), "/api/runtimes?workspace_slug=acme", "/api/usage/daily.csv?workspace_slug=acme"} {
			if a := b.do(t, http.MethodGet, path, header); a.status != status {
				t.Errorf("%s by %q: status is %d, want %d; body %s", path, token, a.status, status, a.body)
			} else if status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s by %q: header is %v", path, token, a.header)
			}
		}
		if a := b.doBody(t, http.MethodPatch, "/api/runtimes/"+id, header, `{"timezone":"UTC"}`); a.status != status {
			t.Errorf("PATCH by %q: status is %d, want %d; body %s", token, a.status, status, a.body)
		}
	}
	// What is not for everybody to see is not for a bad token either.
	b.do(t, http.MethodGet, "/api/runtimes/"+nobody, http.Header{"Authorization": {"Bearer mul_good"}}).require(t, http.StatusNotFound)
	b.do(t, http.MethodGet, "/api/runtimes/"+nobody, http.Header{"Authorization": {"Bearer mul_revoked"}}).require(t, http.StatusUnauthorized)
	// A token is good no longer than it is.
	exec(t, b.pool, `UPDATE public.personal_access_token SET revoked = true WHERE token_hash = $1`, sha("mul_good"))
	b.do(t, http.MethodGet, "/api/runtimes/"+id, http.Header{"Authorization": {"Bearer mul_good"}}).require(t, http.StatusUnauthorized)
}

// A host need not have personal access tokens.
func TestHostWithoutAccessTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b = serveWithWrites(t, b.pool)
	id := b.addUnused(t)
	access := http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, owner)}}
	b.do(t, http.MethodGet, "/api/runtimes/"+id, access).require(t, http.StatusOK)
	exec(t, b.pool, `DROP TABLE public.personal_access_token`)
	for _, route := range apiRoutes(t, b.api) {
		target := id
		if route.method == http.MethodDelete {
			target = b.addUnused(t)
		}
		path := route.path(target, "workspace_slug=acme")
		a := b.doBody(t, route.method, path, access, route.body())
		a.require(t, http.StatusUnauthorized)
		a.requireGolden(t, "unauthorized")
		if a := b.doBody(t, route.method, path, bearer(t, owner), route.body()); a.status != http.StatusOK {
			t.Errorf("%s %s by JWT: status is %d, body %s", route.method, path, a.status, a.body)
		}
	}
}
