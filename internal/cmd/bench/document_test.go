package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplaceMarked(t *testing.T) {
	t.Parallel()
	const document = "# Title\n\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n\nMore.\n"
	got, err := replaceMarked([]byte(document), []byte("new\n"))
	if want := "# Title\n\n<!-- bench:begin -->\n\nnew\n\n<!-- bench:end -->\n\nMore.\n"; err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
	again, err := replaceMarked(got, []byte("new\n"))
	if err != nil || !bytes.Equal(again, got) {
		t.Errorf("the second time: %q, %v; want the same", again, err)
	}
	for name, document := range map[string]string{
		"no marks":     "# Title\n",
		"no end":       "<!-- bench:begin -->\n",
		"no begin":     "<!-- bench:end -->\n",
		"end first":    "<!-- bench:end -->\n<!-- bench:begin -->\n",
		"two begins":   "<!-- bench:begin -->\n<!-- bench:begin -->\n<!-- bench:end -->\n",
		"begin after":  "<!-- bench:begin -->\n<!-- bench:end -->\n<!-- bench:begin -->\n",
		"two ends":     "<!-- bench:begin -->\n<!-- bench:end -->\n<!-- bench:end -->\n",
		"another line": "<!-- bench:begin --> x\n<!-- bench:end -->\n",
	} {
		if _, err := replaceMarked([]byte(document), nil); !errors.Is(err, errNoMarks) {
			t.Errorf("%s: %v, want errNoMarks", name, err)
		}
	}
}

func TestWriteDocument(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(path, []byte("<!-- bench:begin -->\n<!-- bench:end -->\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sample().writeDocument(path); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| apply | 10 ms |", "A note.", "](performance.svg)"} {
		if !strings.Contains(string(document), want) {
			t.Errorf("%q is not in\n%s", want, document)
		}
	}
	picture, err := os.ReadFile(strings.TrimSuffix(path, ".md") + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(bytes.NewReader(picture)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
	for _, want := range []string{"idle &amp; quiet", "transaction open", "≥ 50", "0.60 s"} {
		if !strings.Contains(string(picture), want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
}

func TestPictureOfNothingMuch(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*report{
		"nothing":  {},
		"no curve": {results: sample().results},
		"no bars":  {curve: sample().curve},
	} {
		if _, err := r.draw(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
