package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var (
	contentLength    = []byte("content-length:")
	transferEncoding = []byte("transfer-encoding:")
	statusOK         = []byte("HTTP/1.1 200 ")
	lineEnd          = []byte("\r\n")
	headEnd          = []byte("\r\n\r\n")
)

// answerLength returns the length of the HTTP answer that in begins with, head and body, or 0 if in is only a part of it.
func answerLength(in []byte) (int, error) {
	end := bytes.Index(in, headEnd)
	if end < 0 {
		return 0, nil
	}
	head, body := in[:end], end+len(headEnd)
	if !bytes.HasPrefix(head, statusOK) {
		return 0, fmt.Errorf("the api answers %s", in)
	}
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, lineEnd)
		if value, ok := cutName(line, contentLength); ok {
			length, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil {
				return 0, err
			}
			return complete(in, body+int(length)), nil
		}
		if value, ok := cutName(line, transferEncoding); ok && bytes.EqualFold(value, []byte("chunked")) {
			return chunksEnd(in, body)
		}
	}
	return 0, errors.New("the api answers without Content-Length and not in chunks")
}

// complete is end, or 0 if in does not reach it.
func complete(in []byte, end int) int {
	if end > len(in) {
		return 0
	}
	return end
}

// cutName returns the value of a header line if it is of the name, which is in lower case and ends with a colon.
func cutName(line, name []byte) (value []byte, ok bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], name) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}

// chunksEnd returns where the chunks end that begin at a place, or 0 if they are not all there. There are no trailers.
func chunksEnd(in []byte, at int) (int, error) {
	for {
		line, _, found := bytes.Cut(in[at:], lineEnd)
		if !found {
			return 0, nil
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return 0, err
		}
		at += len(line) + len(lineEnd) + int(size) + len(lineEnd)
		if at > len(in) {
			return 0, nil
		}
		if size == 0 {
			return at, nil
		}
	}
}
