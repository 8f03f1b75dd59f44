package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Between these lines of a document stands what a run has measured.
const (
	beginMark = "<!-- bench:begin -->\n"
	endMark   = "<!-- bench:end -->"
)

// errNoMarks means that a document does not say where to write.
var errNoMarks = errors.New("the file does not have " + beginMark[:len(beginMark)-1] + " and then " + endMark + ", once each")

// replaceMarked puts text between the marks of a document.
func replaceMarked(document, text []byte) ([]byte, error) {
	before, rest, begun := bytes.Cut(document, []byte(beginMark))
	_, after, ended := bytes.Cut(rest, []byte(endMark))
	if !begun || !ended || bytes.Contains(rest, []byte(beginMark)) || bytes.Contains(after, []byte(endMark)) {
		return nil, errNoMarks
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s%s\n%s\n\n%s%s", before, beginMark, bytes.TrimSpace(text), endMark, after)
	return out.Bytes(), nil
}

// writeDocument writes the report into a file, and the picture beside it.
func (r *report) writeDocument(path string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	picture := strings.TrimSuffix(path, filepath.Ext(path)) + ".svg"
	var text bytes.Buffer
	r.write(&text)
	fmt.Fprintf(&text, "\n![Bars of what was measured beside what is wanted, and the time of a drain pass while a transaction is open](%s)\n", filepath.Base(picture))
	if document, err = replaceMarked(document, text.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := r.writePicture(picture); err != nil {
		return err
	}
	return os.WriteFile(path, document, 0o644)
}
