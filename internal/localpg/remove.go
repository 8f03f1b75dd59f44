package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Remove deletes the cluster in the folder with all its data, a container and a volume included, and whatever
// ephemeral clusters of killed runs left behind. It stops a server whose process was killed. It fails when a process
// uses the cluster. A folder that does not exist is no error.
func Remove(ctx context.Context, dir string, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	sweep(ctx, log)
	if _, err := os.Stat(filepath.Join(dir, "lock")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := remove(ctx, dir, log); err != nil {
		return fmt.Errorf("remove local Postgres: %w", err)
	}
	return nil
}

func remove(ctx context.Context, dir string, log *slog.Logger) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	f, err := lockFolder(dir)
	if err != nil {
		return err
	}
	err = stopLeftover(ctx, f.path("data"), log)
	if err == nil {
		err = removeContainer(ctx, f)
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	return errors.Join(err, f.unlock())
}

// sweep removes ephemeral clusters whose process was killed.
func sweep(ctx context.Context, log *slog.Logger) {
	// A younger folder may belong to a start that has not locked it yet.
	const young = 10 * time.Minute
	for _, parent := range tempParents() {
		dirs, _ := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
		for _, dir := range dirs {
			// Others can write to the parent, but not to a folder of ours.
			info, err := os.Lstat(dir)
			if err != nil || !info.IsDir() || !ours(info) {
				continue
			}
			lock, err := os.Stat(filepath.Join(dir, "lock"))
			if err != nil || time.Since(lock.ModTime()) < young {
				continue
			}
			if err := remove(ctx, dir, log); err != nil && !errors.Is(err, errInUse) {
				log.Warn("cannot remove the cluster of a killed run", "dir", dir, "error", err)
			}
		}
	}
}
