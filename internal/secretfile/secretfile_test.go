package secretfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"daybook/internal/secretfile"
)

type cli struct {
	Secret string `env:"SOME_SECRET" required:""`
	Other  string `env:"OTHER"`
}

func parse(t *testing.T, args ...string) (cli, error) {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, kong.Resolvers(secretfile.From("SOME_SECRET")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return c, err
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// No t.Parallel: the environment is the process's.
func TestFromFiles(t *testing.T) {
	path := write(t, "s3cret\n")
	t.Setenv("SOME_SECRET_FILE", path)
	t.Setenv("OTHER_FILE", path)
	c, err := parse(t)
	if err != nil || c.Secret != "s3cret" || c.Other != "" {
		t.Errorf("%+v, %v; want the content of the file, and none for OTHER, which is no secret", c, err)
	}
	if c, err := parse(t, "--secret=given"); err != nil || c.Secret != "given" {
		t.Errorf("%+v, %v; want what the flag says", c, err)
	}
}

func TestFromFilesThatCannotBe(t *testing.T) {
	for name, test := range map[string]struct{ path, value, want string }{
		"both":    {write(t, "a"), "b", "both SOME_SECRET and SOME_SECRET_FILE are set"},
		"empty":   {write(t, " \n"), "", "is empty"},
		"missing": {filepath.Join(t.TempDir(), "nowhere"), "", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SOME_SECRET_FILE", test.path)
			t.Setenv("SOME_SECRET", test.value)
			if _, err := parse(t); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
