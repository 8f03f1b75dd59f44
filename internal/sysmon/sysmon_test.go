package sysmon_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"daybook/internal/sysmon"
)

// child is set in the environment of the program that the tests start.
const child = "DAYBOOK_SYSMON_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(child); args != "" {
		if args == "own" {
			sysmon.StayAwake(context.Background(), os.Args[1:])
		} else {
			sysmon.StayAwake(context.Background(), []string{args})
		}
		fmt.Printf("%d %q %q", os.Getpid(), os.Args[1:], os.Getenv("GODEBUG"))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestStayAwake(t *testing.T) {
	t.Parallel()
	const setting = "schedtrace=2147483647,memprofilerate=0"
	for _, test := range []struct{ name, args, given, secret, want string }{
		{"nothing is set", "own", "", "", setting},
		{"another setting is kept", "own", "netdns=go", "", setting + ",netdns=go"},
		{"a secret is in a file", "own", "", "sysmon_test.go", setting},
		{"a secret comes through what can be read once", "own", "", "/dev/null", ""},
		{"the user's own wins", "own", "schedtrace=0", "", "schedtrace=0"},
		{"the program was started for something else", "other", "netdns=go", "", "netdns=go"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "run", "--flag=a b") //nolint:noctx // It is short.
			cmd.Env = append(os.Environ(), child+"="+test.args, "GODEBUG="+test.given, "JWT_SECRET_FILE="+test.secret)
			out, err := cmd.Output()
			want := fmt.Sprintf("%d %q %q", cmd.Process.Pid, []string{"run", "--flag=a b"}, test.want)
			if err != nil || string(out) != want {
				t.Errorf("the program says %s, want %s: %v", out, want, err)
			}
		})
	}
}
