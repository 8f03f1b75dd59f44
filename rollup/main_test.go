package rollup_test

import (
	"os"
	"testing"

	"daybook/rollup"
)

// maxRuntimes is how many runtimes a transaction locks one by one. Tests have few: of those with more, some transactions hold one lock for all of
// them, and others one for each.
const maxRuntimes = 3

func TestMain(m *testing.M) {
	rollup.SetMaxRuntimes(maxRuntimes)
	os.Exit(m.Run())
}
