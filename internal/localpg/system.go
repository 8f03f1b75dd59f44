package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A system is where we look for a Postgres. Tests make one up.
type system struct {
	path   string   // as in the environment
	places []string // patterns for folders of server binaries
	root   bool     // whether we may install packages

	// clusterConf is the file that tells Debian's packages whether to create and start a cluster when a server is
	// installed.
	clusterConf string
}

func thisSystem() system {
	return system{
		path:        os.Getenv("PATH"),
		places:      usualPlaces,
		root:        os.Geteuid() == 0,
		clusterConf: "/etc/postgresql-common/createcluster.conf",
	}
}

// choose finds a way to run the cluster of the folder.
func (sys system) choose(ctx context.Context, f *folder, cfg Config) (backend, error) {
	want, err := dataMajor(f)
	if err != nil {
		return nil, err
	}
	found, seen := sys.installations(ctx)
	if len(found) == 0 && want == 0 && sys.root && sys.lookPath("apt-get") != "" {
		if err := sys.installDebian(ctx, cfg.Log); err != nil {
			seen = append(seen, err.Error())
		}
		var more []string
		found, more = sys.installations(ctx)
		seen = append(seen, more...)
	}

	if want != 0 {
		i := slices.IndexFunc(found, func(in installation) bool { return in.major == want })
		if i < 0 {
			return nil, fmt.Errorf("the cluster in %s is of Postgres %d, whose binaries are not here; install them, or remove the cluster with make clean",
				f.dir, want)
		}
		return newNative(f, cfg, found[i])
	}
	if len(found) > 0 {
		return newNative(f, cfg, found[0])
	}
	if cfg.StandbyOf != "" {
		return nil, notFound(append(seen, "a standby needs server binaries"))
	}
	d, err := sys.newDocker(ctx, f, cfg)
	if err == nil {
		return d, nil
	}
	return nil, notFound(append(seen, err.Error()))
}

// dataMajor is the version of the cluster that is in the folder, or 0.
func dataMajor(f *folder) (int, error) {
	b, err := os.ReadFile(f.path("data/PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func notFound(seen []string) error {
	return fmt.Errorf(`no Postgres found; version %d or newer is needed. Do one of these:
  - install the server: apt-get install postgresql (Debian, Ubuntu), dnf install postgresql-server (Fedora),
    brew install postgresql@17 (macOS)
  - set DATABASE_URL to a Postgres %d or newer where you may create databases
  - start Docker; then the image %s is used
Tried PATH and the usual places.
  %s`, minMajor, minMajor, dockerImage, strings.Join(seen, "\n  "))
}
