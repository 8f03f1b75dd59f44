package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const noCluster = `# Written by Daybook's make before it installed postgresql: it needs the binaries only.
# Remove this line to let later packages create a cluster.
create_main_cluster = false
`

// installDebian installs the binaries of Debian's Postgres.
func (sys system) installDebian(ctx context.Context, log *slog.Logger) error {
	log.Info("no Postgres here: installing Debian's package postgresql, which takes a minute or two")
	restore, err := withoutCluster(sys.clusterConf)
	if err != nil {
		return fmt.Errorf("install postgresql: %w", err)
	}
	for _, args := range [][]string{
		{"update"},
		{"install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "postgresql"},
	} {
		args = append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)
		cmd := exec.CommandContext(ctx, sys.lookPath("apt-get"), args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		log.Info("run", "command", strings.Join(cmd.Args, " "))
		if out, runErr := cmd.CombinedOutput(); runErr != nil {
			err = fmt.Errorf("install postgresql: apt-get: %w; end of its output:\n%s", runErr, tail(out))
			break
		}
	}
	return errors.Join(err, restore())
}

// withoutCluster writes the setting into the file and returns what puts the file back. A file that was not there
// stays: the package would otherwise ask about it at its next update.
func withoutCluster(path string) (restore func() error, err error) {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		return func() error { return nil }, os.WriteFile(path, []byte(noCluster), 0o644)
	}
	if err != nil {
		return nil, err
	}
	// The last line wins.
	changed := append(bytes.TrimRight(bytes.Clone(old), "\n"), "\n"+noCluster...)
	return func() error { return os.WriteFile(path, old, 0o644) }, os.WriteFile(path, changed, 0o644)
}

func tail(out []byte) []byte {
	const size = 2000
	out = bytes.TrimSpace(out)
	return out[max(0, len(out)-size):]
}
