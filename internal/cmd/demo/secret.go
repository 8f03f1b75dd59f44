package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

type secret struct {
	value string
	file  string // where it is kept; empty when the environment gave it
}

// jwtSecret is JWT_SECRET, or else a random one of the demo's own, kept in dir so that tokens outlive a restart.
func jwtSecret(dir string) (secret, error) {
	if value := os.Getenv("JWT_SECRET"); value != "" {
		return secret{value: value}, nil
	}
	s := secret{file: filepath.Join(dir, "jwt-secret")}
	kept, err := os.ReadFile(s.file)
	if err == nil {
		s.value = strings.TrimSpace(string(kept))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return secret{}, fmt.Errorf("read the demo's secret: %w", err)
	}
	if len(s.value) >= 32 {
		return s, nil
	}
	var b [32]byte
	// It never fails.
	_, _ = rand.Read(b[:])
	s.value = hex.EncodeToString(b[:])
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return secret{}, fmt.Errorf("keep the demo's secret: %w", err)
	}
	if err := os.WriteFile(s.file, []byte(s.value+"\n"), 0o600); err != nil {
		return secret{}, fmt.Errorf("keep the demo's secret: %w", err)
	}
	return s, nil
}
