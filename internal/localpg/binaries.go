package localpg

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// minMajor is the oldest Postgres that Daybook works with.
const minMajor = 15

// usualPlaces are patterns for the folders of server binaries that are often not on PATH.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // packages of the PostgreSQL project for Red Hat
	"/usr/local/pgsql/bin",                               // built from source
	"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
	"/opt/homebrew/bin",                                  //
	"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
}

// An installation is the server binaries of one Postgres.
type installation struct {
	initdb, postgres string
	major            int
}

// installations are those on PATH, then those in the usual places, the newest first. It also returns what it saw that
// cannot be used, for the error.
func (sys system) installations(ctx context.Context) (found []installation, unfit []string) {
	add := func(list []installation, initdb, postgres string) []installation {
		major, err := majorOf(ctx, postgres)
		switch {
		case err != nil:
			unfit = append(unfit, err.Error())
		case major < minMajor:
			unfit = append(unfit, fmt.Sprintf("%s is version %d", postgres, major))
		default:
			list = append(list, installation{initdb: initdb, postgres: postgres, major: major})
		}
		return list
	}

	if initdb, postgres := sys.lookPath("initdb"), sys.lookPath("postgres"); initdb != "" && postgres != "" {
		found = add(found, initdb, postgres)
	}
	var usual []installation
	for _, pattern := range sys.places {
		// The patterns are constants, so they are well formed.
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			initdb, postgres := filepath.Join(dir, "initdb"), filepath.Join(dir, "postgres")
			if executable(initdb) && executable(postgres) {
				usual = add(usual, initdb, postgres)
			}
		}
	}
	slices.SortStableFunc(usual, func(a, b installation) int { return cmp.Compare(b.major, a.major) })
	return append(found, usual...), unfit
}

// lookPath is exec.LookPath for the PATH of the system.
func (sys system) lookPath(name string) string {
	for _, dir := range filepath.SplitList(sys.path) {
		if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) {
			return path
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func majorOf(ctx context.Context, postgres string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", postgres, err)
	}
	return parseVersion(string(out))
}

// The number can be followed by a minor version, a beta or what a distribution adds.
var versionLine = regexp.MustCompile(`^postgres \([^)]*\) (\d+)`)

// parseVersion returns the major version from what postgres --version prints.
func parseVersion(line string) (int, error) {
	m := versionLine.FindStringSubmatch(line)
	if m == nil {
		return 0, fmt.Errorf("no version in %q", line)
	}
	return strconv.Atoi(m[1])
}
