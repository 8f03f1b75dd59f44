package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func writeFile(t *testing.T, name, content string, changed time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, changed, changed); err != nil {
		t.Fatal(err)
	}
}

func TestTheSameFilesMakeTheSameBytes(t *testing.T) {
	t.Parallel()
	var archives []string
	for _, changed := range []time.Time{time.Unix(1, 0), time.Unix(1_700_000_000, 0)} {
		folder := filepath.Join(t.TempDir(), "release")
		writeFile(t, filepath.Join(folder, "docs", "page.md"), "a page", changed)
		writeFile(t, filepath.Join(folder, "README.md"), "a text", changed)
		if err := pack(folder, time.Unix(1_600_000_000, 0)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(folder + ".tar.gz")
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, string(content))
	}
	if archives[0] == "" || archives[0] != archives[1] {
		t.Errorf("%d and %d bytes differ", len(archives[0]), len(archives[1]))
	}
}

func TestNothingIsLeftOfAFailure(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "release")
	writeFile(t, filepath.Join(folder, "README.md"), "a text", time.Now())
	if err := os.Symlink("README.md", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	if err := pack(folder, time.Unix(1_600_000_000, 0)); err == nil {
		t.Error("a link was packed")
	}
	if left, err := filepath.Glob(folder + ".*"); err != nil || len(left) > 0 {
		t.Errorf("%q, %v", left, err)
	}
}
