// Package secretfile reads secrets from files, as container platforms and systemd hand them over.
package secretfile

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// From returns a resolver for the flags that have one of these environment variables: where NAME_FILE is set, the value is the
// content of that file, without white space around it. It is an error to set NAME too, and a file that is empty or cannot be read.
func From(names ...string) kong.ResolverFunc {
	return func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, name := range flag.Envs {
			path := os.Getenv(name + "_FILE")
			if path == "" || !slices.Contains(names, name) {
				continue
			}
			if os.Getenv(name) != "" {
				return nil, fmt.Errorf("both %s and %s_FILE are set: set one of them", name, name)
			}
			content, err := os.ReadFile(path) //nolint:gosec // Whoever sets the environment may name any file.
			if err != nil {
				return nil, fmt.Errorf("%s_FILE: %w", name, err)
			}
			value := strings.TrimSpace(string(content))
			if value == "" {
				return nil, fmt.Errorf("%s_FILE: %s is empty", name, path)
			}
			return value, nil
		}
		return nil, nil
	}
}
