package httpapi_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"daybook/internal/httpapi"
)

// awaitTimeout bounds what a test waits for.
const awaitTimeout = 15 * time.Second

// signingKey is a key that tokens are signed with.
type signingKey struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
}

var base64url = base64.RawURLEncoding

// jwk is the public half, as in a set (RFC 7517, RFC 7518, RFC 8037).
func (k signingKey) jwk(t *testing.T) map[string]string {
	t.Helper()
	m := map[string]string{"kid": k.kid, "use": "sig", "alg": k.method.Alg()}
	switch public := k.key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"] = "RSA", base64url.EncodeToString(public.N.Bytes())
		m["e"] = base64url.EncodeToString(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			t.Fatal(err)
		}
		m["kty"], m["crv"] = "EC", "P-256"
		m["x"], m["y"] = base64url.EncodeToString(point[1:33]), base64url.EncodeToString(point[33:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", base64url.EncodeToString(public)
	default:
		t.Fatalf("no JWK for a %T", public)
	}
	return m
}

// sign signs a token for the owner that is good for an hour. Change may change it first.
func (k signingKey) sign(t *testing.T, change ...func(*jwt.Token)) string {
	t.Helper()
	token := jwt.NewWithClaims(k.method, jwt.MapClaims{"sub": owner, "exp": time.Now().Add(time.Hour).Unix()})
	if k.kid != "" {
		token.Header["kid"] = k.kid
	}
	for _, c := range change {
		c(token)
	}
	signed, err := token.SignedString(k.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// signHS256 is the same with a secret.
func signHS256(t *testing.T, secret []byte, change ...func(*jwt.Token)) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": owner, "exp": time.Now().Add(time.Hour).Unix()})
	for _, c := range change {
		c(token)
	}
	signed, err := token.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func withHeader(name string, value any) func(*jwt.Token) {
	return func(token *jwt.Token) { token.Header[name] = value }
}

func withClaim(name string, value any) func(*jwt.Token) {
	return func(token *jwt.Token) { token.Claims.(jwt.MapClaims)[name] = value } //nolint:forcetypeassert // sign makes no others.
}

// Keys of each kind, made once: an RSA key takes a while.
var (
	rsaKey     = sync.OnceValue(func() signingKey { return newRSAKey("rsa") })
	otherKey   = sync.OnceValue(func() signingKey { return newRSAKey("other") })
	ecKey      = sync.OnceValue(newECKey)
	edwardsKey = sync.OnceValue(newEdwardsKey)
)

func newRSAKey(kid string) signingKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return signingKey{kid, jwt.SigningMethodRS256, key}
}

func newECKey() signingKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return signingKey{"ec", jwt.SigningMethodES256, key}
}

func newEdwardsKey() signingKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return signingKey{"edwards", jwt.SigningMethodEdDSA, key}
}

// keyServer serves a set of keys.
type keyServer struct {
	url string

	mu    sync.Mutex
	keys  []map[string]string
	down  bool // it takes connections and ends them
	asked int
}

func newKeyServer(t *testing.T, keys ...map[string]string) *keyServer {
	t.Helper()
	s := &keyServer{keys: keys}
	server := httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(server.Close)
	s.url = server.URL + "/keys"
	return s
}

func (s *keyServer) answer(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.down {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"keys": s.keys}) //nolint:errcheck,errchkjson // The test sees that there are no keys.
}

func (s *keyServer) set(down bool, keys ...map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.down = keys, down
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// allKeys serves one key of each kind.
func allKeys(t *testing.T) *keyServer {
	t.Helper()
	return newKeyServer(t, rsaKey().jwk(t), ecKey().jwk(t), edwardsKey().jwk(t))
}

// fromKeys takes what keys sign, and nothing that a secret signs.
func fromKeys(url string) func(*httpapi.TokenConfig) {
	return func(c *httpapi.TokenConfig) { c.Secret, c.JWKSURL = nil, url }
}

// andKeys takes what keys sign too.
func andKeys(url string) func(*httpapi.TokenConfig) {
	return func(c *httpapi.TokenConfig) { c.JWKSURL = url }
}

// requireTaken checks that tokens are taken, or that none is.
func requireTaken(t *testing.T, tokens *httpapi.Tokens, taken bool, signed map[string]string) {
	t.Helper()
	for name, s := range signed {
		user, err := tokens.Verify(t.Context(), s)
		switch {
		case taken && (err != nil || user.String() != owner):
			t.Errorf("%s: user is %s, %v", name, user, err)
		case !taken && err == nil:
			t.Errorf("%s is taken", name)
		}
	}
}

func TestKeysOfASet(t *testing.T) {
	t.Parallel()
	url := allKeys(t).url
	byKeys := map[string]string{"RS256": rsaKey().sign(t), "ES256": ecKey().sign(t), "EdDSA": edwardsKey().sign(t)}
	for name, key := range map[string]signingKey{"RS256": rsaKey(), "ES256": ecKey(), "EdDSA": edwardsKey()} {
		// A set may be of one signer that names none of its keys.
		byKeys[name+" without kid"] = key.sign(t, func(token *jwt.Token) { delete(token.Header, "kid") })
	}
	bySecret := map[string]string{"HS256": signHS256(t, []byte(secret)), "HS256 with kid": signHS256(t, []byte(secret), withHeader("kid", "rsa"))}

	keys := newTokens(t, fromKeys(url))
	requireTaken(t, keys, true, byKeys)
	requireTaken(t, keys, false, bySecret)
	both := newTokens(t, andKeys(url))
	requireTaken(t, both, true, byKeys)
	requireTaken(t, both, true, bySecret)
	requireTaken(t, newTokens(t), false, byKeys)

	// The whole way once, by the API.
	b := setup(t)
	path := "/api/runtimes/" + b.addRuntime(t, "UTC")
	b = serve(t, b.pool, func(c *httpapi.Config) { c.Tokens = keys })
	for name, signed := range byKeys {
		if a := b.do(t, http.MethodGet, path, http.Header{"Authorization": {"Bearer " + signed}}); a.status != http.StatusOK {
			t.Errorf("%s: status is %d, body %s", name, a.status, a.body)
		}
	}
	for _, signed := range bySecret {
		b.do(t, http.MethodGet, path, http.Header{"Authorization": {"Bearer " + signed}}).require(t, http.StatusUnauthorized)
	}
}

// What is public about a key must not do as a secret, and one key must not do for another.
func TestKeysAreNotConfused(t *testing.T) {
	t.Parallel()
	set := allKeys(t)
	oct := base64url.EncodeToString([]byte("a symmetric key that does not belong into a set"))
	set.set(false, rsaKey().jwk(t), ecKey().jwk(t), edwardsKey().jwk(t), map[string]string{"kty": "oct", "kid": "oct", "alg": "HS256", "k": oct})

	signed := make(map[string]string)
	for name, key := range map[string]signingKey{"RSA": rsaKey(), "EC": ecKey(), "Ed25519": edwardsKey()} {
		der, err := x509.MarshalPKIXPublicKey(key.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		object, err := json.Marshal(key.jwk(t))
		if err != nil {
			t.Fatal(err)
		}
		for form, public := range map[string][]byte{
			"PEM": block, "PEM without the last line's end": []byte(strings.TrimSpace(string(block))), "DER": der, "JWK": object,
		} {
			signed["HS256 with the "+name+" key as "+form] = signHS256(t, public)
			signed["the same with kid, "+name+", "+form] = signHS256(t, public, withHeader("kid", key.kid))
		}
	}
	public, ok := rsaKey().key.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("not an RSA key")
	}
	signed["HS256 with the modulus"] = signHS256(t, public.N.Bytes(), withHeader("kid", "rsa"))
	signed["HS256 with PKCS 1"] = signHS256(t, x509.MarshalPKCS1PublicKey(public), withHeader("kid", "rsa"))
	signed["HS256 with the set's own"] = signHS256(t, []byte("a symmetric key that does not belong into a set"), withHeader("kid", "oct"))
	signed["another key"] = otherKey().sign(t)
	signed["another key with a known kid"] = otherKey().sign(t, withHeader("kid", "rsa"))
	signed["kid of a key of another kind"] = rsaKey().sign(t, withHeader("kid", "ec"))
	signed["kid is a number"] = rsaKey().sign(t, withHeader("kid", 7))
	signed["kid is null"] = rsaKey().sign(t, withHeader("kid", nil))
	signed["key in the header"] = otherKey().sign(t, withHeader("jwk", otherKey().jwk(t)), withHeader("kid", "rsa"))
	signed["URL in the header"] = otherKey().sign(t, withHeader("jku", newKeyServer(t, otherKey().jwk(t)).url))
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS384, jwt.SigningMethodRS512, jwt.SigningMethodPS256} {
		signed[method.Alg()] = signingKey{"rsa", method, rsaKey().key}.sign(t)
		signed[method.Alg()+" without kid"] = signingKey{"", method, rsaKey().key}.sign(t)
	}
	requireTaken(t, newTokens(t, fromKeys(set.url)), false, signed)
	requireTaken(t, newTokens(t, andKeys(set.url)), false, signed)
}

func TestNewKeysAreTakenSoon(t *testing.T) {
	t.Parallel()
	set := newKeyServer(t, rsaKey().jwk(t))
	tokens := newTokens(t, fromKeys(set.url))
	requireTaken(t, tokens, true, map[string]string{"the first key": rsaKey().sign(t)})
	set.set(false, ecKey().jwk(t))
	awaitTaken(t, tokens, ecKey().sign(t))
	requireTaken(t, tokens, false, map[string]string{"a key that is withdrawn": rsaKey().sign(t)})
	// A signer that is away for a while does no harm to what is known.
	set.set(true)
	requireTaken(t, tokens, true, map[string]string{"the new key": ecKey().sign(t)})
}

func awaitTaken(t *testing.T, tokens *httpapi.Tokens, signed string) {
	t.Helper()
	deadline := time.After(awaitTimeout)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := tokens.Verify(t.Context(), signed)
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("it is never taken: %v", err)
		}
	}
}

// Anybody can make up tokens, and their keys' names. The signer must not be asked about each.
func TestMadeUpKeysAreNotAskedForOften(t *testing.T) {
	t.Parallel()
	set := allKeys(t)
	tokens := newTokens(t, fromKeys(set.url))
	start, before := time.Now(), set.count()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 4 {
				if _, err := tokens.Verify(t.Context(), otherKey().sign(t, withHeader("kid", rand.Text()))); err == nil {
					t.Error("a key that is made up is taken")
				}
			}
		})
	}
	group.Wait()
	// Once at once, then once in five seconds.
	if asked, allowed := set.count()-before, 2+int(time.Since(start)/(5*time.Second)); asked > allowed {
		t.Errorf("the signer was asked %d times, more than %d", asked, allowed)
	}
	requireTaken(t, tokens, true, map[string]string{"a known key": rsaKey().sign(t)})
}

// requireNoKeys checks an answer while the keys have never been there.
func (a answer) requireNoKeys(t *testing.T) {
	t.Helper()
	a.require(t, http.StatusServiceUnavailable)
	if got := a.header.Get("Retry-After"); got == "" {
		t.Error("no Retry-After")
	}
	if a.took >= 3*time.Second {
		t.Errorf("it took %s", a.took)
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || len(body) != 2 || body["error"] == "" || body["request_id"] == "" {
		t.Errorf("%v: body is %s", err, a.body)
	}
}

func TestSignerThatIsDownAtStart(t *testing.T) {
	t.Parallel()
	host := setup(t)
	path := "/api/runtimes/" + host.addRuntime(t, "UTC")
	// api is one that starts without keys, and the header of a token that it then gets.
	type api struct {
		*bundle
		set    *keyServer
		header http.Header
	}
	apis := make(map[string]api)
	for name, signed := range map[string]string{
		"with kid":    rsaKey().sign(t),
		"without kid": rsaKey().sign(t, func(token *jwt.Token) { delete(token.Header, "kid") }),
	} {
		set := newKeyServer(t)
		set.set(true)
		b := serve(t, host.pool, func(c *httpapi.Config) { c.Tokens = newTokens(t, andKeys(set.url)) })
		apis[name] = api{b, set, http.Header{"Authorization": {"Bearer " + signed}}}
		b.do(t, http.MethodGet, path, apis[name].header).requireNoKeys(t)
		// What needs no key is answered.
		b.get(t, owner, path).require(t, http.StatusOK)
		b.do(t, http.MethodGet, path, http.Header{"Authorization": {"Bearer garbage"}}).require(t, http.StatusUnauthorized)
		set.set(false, rsaKey().jwk(t))
	}
	deadline := time.After(awaitTimeout)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for len(apis) > 0 {
		for name, b := range apis {
			a := b.do(t, http.MethodGet, path, b.header)
			if a.status == http.StatusOK {
				delete(apis, name)
				continue
			}
			a.requireNoKeys(t)
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("the signer is back, and nothing asks it for its keys: %v", keysOf(apis))
		}
	}
}

// A signer that takes connections and never answers must not keep the API from starting, nor requests from being answered.
func TestSignerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	start := time.Now()
	tokens := newTokens(t, andKeys("http://"+listener.Addr().String()+"/keys"))
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the start took %s", took)
	}
	b := serve(t, setup(t).pool, func(c *httpapi.Config) { c.Tokens = tokens })
	path := "/api/runtimes/" + anyRuntime
	b.do(t, http.MethodGet, path, http.Header{"Authorization": {"Bearer " + rsaKey().sign(t)}}).requireNoKeys(t)
	b.get(t, owner, path).require(t, http.StatusNotFound)
}

func TestIssuerAndAudience(t *testing.T) {
	t.Parallel()
	claims := map[string]func(*jwt.Token){
		"right": func(token *jwt.Token) { withClaim("iss", "me")(token); withClaim("aud", "daybook")(token) },
		"one of several": func(token *jwt.Token) {
			withClaim("iss", "me")(token)
			withClaim("aud", []string{"x", "daybook"})(token)
		},
		"wrong issuer":       func(token *jwt.Token) { withClaim("iss", "you")(token); withClaim("aud", "daybook")(token) },
		"no issuer":          withClaim("aud", "daybook"),
		"wrong audience":     func(token *jwt.Token) { withClaim("iss", "me")(token); withClaim("aud", "day")(token) },
		"no audience":        withClaim("iss", "me"),
		"audience is empty":  func(token *jwt.Token) { withClaim("iss", "me")(token); withClaim("aud", []string{})(token) },
		"issuer is a prefix": func(token *jwt.Token) { withClaim("iss", "me too")(token); withClaim("aud", "daybook")(token) },
		"neither":            func(*jwt.Token) {},
	}
	for _, test := range []struct {
		configure func(*httpapi.TokenConfig)
		taken     string // the names of those that are, with commas around
	}{
		{func(c *httpapi.TokenConfig) { c.Issuer, c.Audience = "me", "daybook" }, ",right,one of several,"},
		{func(c *httpapi.TokenConfig) { c.Issuer = "me" }, ",right,one of several,wrong audience,no audience,audience is empty,"},
		{func(c *httpapi.TokenConfig) { c.Audience = "daybook" }, ",right,one of several,wrong issuer,no issuer,issuer is a prefix,"},
		{func(*httpapi.TokenConfig) {}, "," + strings.Join(keysOf(claims), ",") + ","},
	} {
		tokens := newTokens(t, test.configure)
		for name, change := range claims {
			requireTaken(t, tokens, strings.Contains(test.taken, ","+name+","), map[string]string{name: signHS256(t, []byte(secret), change)})
		}
	}
}

func keysOf[V any](m map[string]V) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	return keys
}

func TestAlgorithmsAreRestricted(t *testing.T) {
	t.Parallel()
	url := allKeys(t).url
	signed := map[string]string{
		"HS256": signHS256(t, []byte(secret)), "RS256": rsaKey().sign(t), "ES256": ecKey().sign(t), "EdDSA": edwardsKey().sign(t),
	}
	for only := range signed {
		tokens := newTokens(t, andKeys(url), func(c *httpapi.TokenConfig) { c.Algorithms = []string{only} })
		for algorithm, s := range signed {
			requireTaken(t, tokens, algorithm == only, map[string]string{algorithm + " where " + only + " is": s})
		}
	}
}

func TestLeeway(t *testing.T) {
	t.Parallel()
	at := func(claim string, after time.Duration) string {
		return signHS256(t, []byte(secret), withClaim(claim, time.Now().Add(after).Unix()))
	}
	for _, test := range []struct {
		leeway, off time.Duration
		taken       bool
	}{
		{0, 3 * time.Second, false},
		{20 * time.Second, 5 * time.Second, true},
		{20 * time.Second, 40 * time.Second, false},
		{httpapi.MaxLeeway, 30 * time.Second, true},
		{httpapi.MaxLeeway, 2 * time.Minute, false},
	} {
		tokens := newTokens(t, func(c *httpapi.TokenConfig) { c.Leeway = test.leeway })
		requireTaken(t, tokens, test.taken, map[string]string{
			test.leeway.String() + ", exp off by " + test.off.String(): at("exp", -test.off),
			test.leeway.String() + ", nbf off by " + test.off.String(): at("nbf", test.off),
		})
	}
}

func TestTokenConfigIsChecked(t *testing.T) {
	t.Parallel()
	long := []byte(secret)
	logger := slog.New(slog.DiscardHandler)
	url := newKeyServer(t).url
	for name, test := range map[string]struct {
		config httpapi.TokenConfig
		says   string // empty if it is good
	}{
		"nothing":                 {httpapi.TokenConfig{}, "neither JWT_SECRET nor DAYBOOK_JWKS_URL"},
		"short secret":            {httpapi.TokenConfig{Secret: long[:31]}, "31 bytes"},
		"short secret, with keys": {httpapi.TokenConfig{Secret: []byte("x"), JWKSURL: url, Logger: logger}, "1 bytes"},
		"32 bytes":                {httpapi.TokenConfig{Secret: long[:32]}, ""},
		"short secret of a demo":  {httpapi.TokenConfig{Secret: []byte("demo"), AllowShortSecret: true}, ""},
		"no secret of a demo":     {httpapi.TokenConfig{AllowShortSecret: true}, "neither"},
		"leeway of a minute":      {httpapi.TokenConfig{Secret: long, Leeway: time.Minute}, ""},
		"too much leeway":         {httpapi.TokenConfig{Secret: long, Leeway: time.Minute + 1}, "leeway"},
		"leeway below none":       {httpapi.TokenConfig{Secret: long, Leeway: -1}, "leeway"},
		"unknown algorithm":       {httpapi.TokenConfig{Secret: long, Algorithms: []string{"HS257"}}, `"HS257"`},
		"algorithm none":          {httpapi.TokenConfig{Secret: long, Algorithms: []string{"none"}}, `"none"`},
		"HS384":                   {httpapi.TokenConfig{Secret: long, Algorithms: []string{"HS384"}}, `"HS384"`},
		"lower case":              {httpapi.TokenConfig{Secret: long, Algorithms: []string{"hs256"}}, `"hs256"`},
		"empty name":              {httpapi.TokenConfig{Secret: long, Algorithms: []string{""}}, `""`},
		"RS256 without keys":      {httpapi.TokenConfig{Secret: long, Algorithms: []string{"HS256", "RS256"}}, `"RS256"`},
		"HS256 without secret":    {httpapi.TokenConfig{JWKSURL: url, Algorithms: []string{"HS256"}, Logger: logger}, `"HS256"`},
		"all four":                {httpapi.TokenConfig{Secret: long, JWKSURL: url, Algorithms: []string{"HS256", "RS256", "ES256", "EdDSA"}, Logger: logger}, ""},
		"no URL":                  {httpapi.TokenConfig{JWKSURL: "keys", Logger: logger}, "DAYBOOK_JWKS_URL"},
		"URL without host":        {httpapi.TokenConfig{JWKSURL: "https:///keys", Logger: logger}, "DAYBOOK_JWKS_URL"},
		"URL of a file":           {httpapi.TokenConfig{JWKSURL: "file:///etc/passwd", Logger: logger}, "DAYBOOK_JWKS_URL"},
		"URL of another scheme":   {httpapi.TokenConfig{JWKSURL: "ftp://example.com/keys", Logger: logger}, "DAYBOOK_JWKS_URL"},
		"malformed URL":           {httpapi.TokenConfig{JWKSURL: "http://%zz", Logger: logger}, "DAYBOOK_JWKS_URL"},
	} {
		tokens, err := httpapi.NewTokens(t.Context(), test.config)
		switch {
		case test.says == "" && (err != nil || tokens == nil):
			t.Errorf("%s: %v", name, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%s: error is %v, which does not say %q", name, err, test.says)
		case err != nil && strings.Contains(err.Error(), secret[:31]):
			t.Errorf("%s: the error says the secret: %v", name, err)
		}
	}
}
