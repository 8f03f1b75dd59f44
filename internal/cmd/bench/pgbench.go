package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"daybook/internal/benchhost"
)

// pgbench is Postgres' own benchmark, and the database that it asks.
type pgbench struct {
	path     string
	url      string // without a password
	password string
}

// findPgbench prefers the one beside the binaries of the server, if the server is on this machine, because its version is the right one.
func findPgbench(ctx context.Context, h *benchhost.Host) (*pgbench, error) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil, err
	}
	b := &pgbench{}
	b.password, _ = u.User.Password()
	u.User = url.User(u.User.Username())
	// libpq refuses what is for pgx's pool only.
	query := u.Query()
	for name := range query {
		if strings.HasPrefix(name, "pool_") {
			query.Del(name)
		}
	}
	u.RawQuery = query.Encode()
	b.url = u.String()

	var dir string
	if err := h.Pool.QueryRow(ctx, statement("binaries")).Scan(&dir); err == nil {
		path := filepath.Join(dir, "pgbench")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			b.path = path
			return b, nil
		}
	}
	if b.path, err = exec.LookPath("pgbench"); err != nil {
		return nil, errors.New("pgbench is not here: it comes with Postgres' server, on Debian with the package postgresql " +
			"(in some versions postgresql-contrib); install it, or put it on PATH")
	}
	return b, nil
}

var rateLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// run returns how many times in a second the script is run, prepared, on so many connections. The length is in whole seconds, and runs
// while pgbench connects, though its rate leaves that out.
func (b *pgbench) run(ctx context.Context, s script, connections int, length time.Duration) (float64, error) {
	file, err := os.CreateTemp("", "daybook-bench-*.sql")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // Nothing depends on it.
	_, err = file.WriteString(s.sql)
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	args := []string{
		"--no-vacuum", "--protocol=prepared", "--client=" + strconv.Itoa(connections), "--jobs=" + strconv.Itoa(min(jobs, connections)),
		"--time=" + strconv.Itoa(int(length.Seconds())), "--file=" + file.Name(),
	}
	for _, v := range s.vars {
		args = append(args, "--define="+v)
	}
	cmd := exec.CommandContext(ctx, b.path, append(args, b.url)...)
	cmd.Env = os.Environ()
	if b.password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+b.password)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s\nwith\n%s", err, stderr.String(), s.sql)
	}
	line := rateLine.FindSubmatch(out)
	if line == nil {
		return 0, fmt.Errorf("pgbench printed no rate:\n%s", out)
	}
	return strconv.ParseFloat(string(line[1]), 64)
}
