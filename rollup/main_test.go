package rollup_test

import (
	"os"
	"testing"

	"daybook/rollup"
)

// Tests have few runtimes. Of those with more than three, some transactions hold one lock for all of them, and others one for each.
func TestMain(m *testing.M) {
	rollup.SetMaxRuntimes(3)
	os.Exit(m.Run())
}
