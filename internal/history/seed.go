package history

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seed returns the seed of a test: that of the environment variable DAYBOOK_SEED, to play a failure again, else a new one. It is
// printed if the test fails.
func Seed(tb testing.TB) uint64 {
	tb.Helper()
	seed := rand.Uint64() //nolint:gosec // A test wants variety, not secrecy.
	if s := os.Getenv("DAYBOOK_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatalf("DAYBOOK_SEED: %v", err)
		}
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("play it again with DAYBOOK_SEED=%d", seed)
		}
	})
	return seed
}
