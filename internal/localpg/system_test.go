package localpg

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 17.4 (Homebrew)\n":                17,
		"postgres (PostgreSQL) 18beta1\n":                        18,
		"postgres (PostgreSQL) 19devel\n":                        19,
		"postgres (PostgreSQL) 9.6.24\n":                         9,
		"postgres (PostgreSQL)\n":                                0,
		"psql (PostgreSQL) 15.1\n":                               0,
		"":                                                       0,
	} {
		got, err := parseVersion(line)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: got %d, %v", line, got, err)
		}
	}
}

// fakeProgram writes a shell script.
func fakeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func fakeInstallation(t *testing.T, dir, version string) {
	t.Helper()
	fakeProgram(t, filepath.Join(dir, "initdb"), "exit 1")
	fakeProgram(t, filepath.Join(dir, "postgres"), "echo 'postgres (PostgreSQL) "+version+"'")
}

func TestInstallations_Order(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, version := range []string{"13.1", "15.2", "17.0", "16.9"} {
		fakeInstallation(t, filepath.Join(dir, version, "bin"), version)
	}
	fakeInstallation(t, filepath.Join(dir, "path"), "15.9")
	// A client alone is no installation.
	fakeProgram(t, filepath.Join(dir, "18.0", "bin", "psql"), "exit 0")

	sys := system{path: filepath.Join(dir, "none") + ":" + filepath.Join(dir, "path"), places: []string{dir + "/*/bin"}}
	found, unfit := sys.installations(t.Context())
	var majors []int
	for _, in := range found {
		majors = append(majors, in.major)
	}
	if want := []int{15, 17, 16, 15}; !slices.Equal(majors, want) {
		t.Errorf("got %v, want %v", majors, want)
	}
	if len(unfit) != 1 || !strings.HasSuffix(unfit[0], "is version 13") {
		t.Errorf("unfit: %q", unfit)
	}
}

func TestStart_NothingFound(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	old := filepath.Join(dir, "old", "bin")
	fakeInstallation(t, old, "13.4")
	fakeProgram(t, filepath.Join(dir, "path", "docker"), "echo 'no daemon'; exit 1")

	sys := system{path: filepath.Join(dir, "path"), places: []string{dir + "/*/bin"}}
	_, err := sys.start(t.Context(), Config{Dir: filepath.Join(dir, "cluster")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"no Postgres found; version 15 or newer is needed",
		"apt-get install postgresql",
		"set DATABASE_URL",
		"start Docker",
		old + "/postgres is version 13",
		"no daemon",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

// TestStart_InstallFails has an apt-get that only writes down how it was called.
func TestStart_InstallFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fakeProgram(t, filepath.Join(dir, "apt-get"), `echo "frontend $DEBIAN_FRONTEND"; echo "$@"; exit 100`)
	sys := system{path: dir, root: true, clusterConf: filepath.Join(dir, "etc", "createcluster.conf")}
	_, err := sys.start(t.Context(), Config{Dir: filepath.Join(dir, "cluster")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"frontend noninteractive", "exit status 100", "no Postgres found", "docker is not on PATH"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestChoose_OtherVersionThanTheData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fakeInstallation(t, filepath.Join(dir, "path"), "17.1")
	if err := os.MkdirAll(filepath.Join(dir, "cluster", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cluster", "data", "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sys := system{path: filepath.Join(dir, "path")}
	_, err := sys.start(t.Context(), Config{Dir: filepath.Join(dir, "cluster")})
	if err == nil || !strings.Contains(err.Error(), "is of Postgres 15, whose binaries are not here") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutCluster(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "etc", "createcluster.conf")

	restore, err := withoutCluster(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != noCluster {
		t.Errorf("new file: %q, %v", got, err)
	}

	const old = "create_main_cluster = true\nstart_conf = 'auto'"
	if err := os.WriteFile(path, []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	if restore, err = withoutCluster(path); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != old+"\n"+noCluster {
		t.Errorf("changed file: %q, %v", got, err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != old {
		t.Errorf("restored file: %q, %v", got, err)
	}
}

// TestDocker has a client that writes down how it was called.
func TestDocker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	fakeProgram(t, filepath.Join(dir, "path", "docker"), fmt.Sprintf(`echo "$@" >> %s
case "$1" in
image) exit 1 ;;
rm) echo "Error: No such container: $4"; exit 1 ;;
run) echo "password $POSTGRES_PASSWORD"; exit 3 ;;
esac`, calls))

	cluster := filepath.Join(dir, "cluster")
	sys := system{path: filepath.Join(dir, "path")}
	_, err := sys.start(t.Context(), Config{Dir: cluster, Settings: map[string]string{"work_mem": "5MB"}})
	password, readErr := os.ReadFile(filepath.Join(cluster, "password"))
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err == nil || !strings.Contains(err.Error(), "exit status 3") ||
		!strings.Contains(err.Error(), "password "+strings.TrimSpace(string(password))) {
		t.Errorf("got %v", err)
	}

	got, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	name := containerName(cluster)
	lines := strings.Split(strings.TrimSpace(string(got)), "\n")
	wants := []string{
		"info",
		"image inspect postgres:17",
		"pull postgres:17",
		"rm --force --volumes " + name,
		"run --rm --name=" + name,
		"rm --force --volumes " + name,
	}
	if len(lines) != len(wants) {
		t.Fatalf("calls:\n%s", got)
	}
	for i, want := range wants {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("call %d is %q, want %q", i, lines[i], want)
		}
	}
	for _, want := range []string{
		"--publish=127.0.0.1:",
		"--volume=" + name + ":/var/lib/postgresql/data",
		" postgres:17 -c log_timezone=UTC -c timezone=UTC -c work_mem=5MB",
	} {
		if !strings.Contains(lines[4], want) {
			t.Errorf("the run lacks %q: %s", want, lines[4])
		}
	}
	if strings.Contains(string(got), strings.TrimSpace(string(password))) {
		t.Error("the password is on a command line")
	}
}

func TestDefaultDir(t *testing.T) {
	t.Parallel()
	dir := DefaultDir("/some/checkout")
	want := "/some/checkout/.daybook/postgres"
	if os.Geteuid() == 0 {
		want = "/var/lib/daybook-dev/" + shortHash("/some/checkout")
	}
	if dir != want {
		t.Errorf("got %s, want %s", dir, want)
	}
}
