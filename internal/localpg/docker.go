package localpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

const dockerImage = "postgres:17"

// docker runs the server in a container. Our child is the attached client: it passes our signals on to the server, it
// writes the server's log, and it ends when the server ends.
type docker struct {
	folder *folder
	cfg    Config
	client string
	name   string // of the container, and of the volume when the cluster persists
}

// newDocker fails when no engine answers.
func (sys system) newDocker(ctx context.Context, f *folder, cfg Config) (*docker, error) {
	client := sys.lookPath("docker")
	if client == "" {
		return nil, errors.New("docker is not on PATH")
	}
	d := &docker{folder: f, cfg: cfg, client: client, name: containerName(f.dir)}
	askCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := d.run(askCtx, "info"); err != nil {
		return nil, err
	}
	return d, nil
}

func containerName(dir string) string {
	return tempPrefix + shortHash(dir)
}

func (d *docker) prepare(ctx context.Context, _ *os.File) error {
	if err := os.WriteFile(d.folder.path("container"), []byte(d.name+"\n"), 0o600); err != nil {
		return err
	}
	if err := d.run(ctx, "image", "inspect", dockerImage); err != nil {
		d.cfg.Log.Info("pull the image, which takes a minute or two", "image", dockerImage)
		if err := d.run(ctx, "pull", dockerImage); err != nil {
			return err
		}
	}
	return d.cleanup(ctx)
}

func (d *docker) command(port int) *exec.Cmd {
	// A read error shows up when the server asks for a password; the caller has read the file before.
	password, _ := d.folder.password()
	args := []string{
		"run", "--rm", "--name=" + d.name, "--shm-size=512m",
		"--publish=127.0.0.1:" + strconv.Itoa(port) + ":5432",
		"--env=POSTGRES_PASSWORD",
		"--env=POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8",
	}
	if !d.cfg.Ephemeral {
		args = append(args, "--volume="+d.name+":/var/lib/postgresql/data")
	}
	args = append(args, dockerImage)
	all := settings(d.cfg, nil)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	cmd := exec.Command(d.client, args...)
	// In the environment, because everybody can read command lines.
	cmd.Env = append(os.Environ(), "POSTGRES_PASSWORD="+password)
	return cmd
}

// cleanup removes the container, which is there only if its client was killed. The volume stays.
func (d *docker) cleanup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d.run(ctx, "rm", "--force", "--volumes", d.name)
}

func (d *docker) run(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, d.client, args...).CombinedOutput()
	if err == nil || args[0] == "rm" && strings.Contains(string(out), "No such container") {
		return nil
	}
	return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, tail(out))
}

// removeContainer removes the container and the volume of the folder, if it has any.
func removeContainer(ctx context.Context, f *folder) error {
	client := thisSystem().lookPath("docker")
	if !exists(f.path("container")) || client == "" {
		return nil
	}
	d := &docker{folder: f, client: client, name: containerName(f.dir)}
	if err := d.cleanup(ctx); err != nil {
		return err
	}
	return d.run(ctx, "volume", "rm", "--force", d.name)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
