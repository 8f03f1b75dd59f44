package localpg

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DefaultDir is the folder for the cluster of a checkout, which is named by the path of its root.
//
// For a normal user it is .daybook/postgres within the checkout. For root it is
// /var/lib/daybook-dev/<hash of the checkout's absolute path>: root's checkout is often below /root, where the
// unprivileged account that runs the server cannot go.
func DefaultDir(checkout string) string {
	// Abs fails only when the working folder is gone. Then the name is as good as any.
	if abs, err := filepath.Abs(checkout); err == nil {
		checkout = abs
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib/daybook-dev", shortHash(checkout))
	}
	return filepath.Join(checkout, ".daybook", "postgres")
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// A folder is a cluster folder that we hold the lock of:
//
//	lock        held for as long as we use the folder; has our process id
//	data/       the data folder of the server, when it runs from binaries; the account of the server owns it
//	password    the superuser's password
//	port        the last port
//	server.log  what initdb and the server wrote since the last start; server.log.1 is from the start before
//	container   the name of the container, when the server runs in one
type folder struct {
	dir  string
	lock *os.File
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// errInUse says that another process holds the lock.
var errInUse = errors.New("in use")

// openFolder creates the folder when it is missing, and locks it.
func openFolder(dir string) (*folder, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	return lockFolder(dir)
}

func lockFolder(dir string) (*folder, error) {
	f := &folder{dir: dir}
	lock, err := os.OpenFile(f.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// The lock belongs to the open file, which our children do not keep. So it is free once we end, however we end.
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(lock.Name())
		_ = lock.Close()
		return nil, fmt.Errorf("the cluster in %s is %w by process %s; stop that one first", dir, errInUse, strings.TrimSpace(string(holder)))
	}
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintln(lock, os.Getpid())
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	f.lock = lock
	return f, nil
}

// unlock frees the lock before it closes the file: a child that another goroutine starts just now has a copy of the open
// file until it executes its program, and the lock would live as long as the copy.
func (f *folder) unlock() error {
	return errors.Join(syscall.Flock(int(f.lock.Fd()), syscall.LOCK_UN), f.lock.Close())
}

// makeDir is os.MkdirAll, but the account of the server can pass what it creates, whatever our umask is.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o711)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		return makeDir(dir)
	case err != nil:
		return err
	}
	return os.Chmod(dir, 0o711)
}

const tempPrefix = "daybook-pg-"

// tempParents are the folders for ephemeral clusters, the best first.
func tempParents() []string { return []string{os.TempDir(), "/tmp", "/var/tmp"} }

// tempDir makes a new folder that the account of the server can reach.
func tempDir() (string, error) {
	who, err := serverAccount("")
	if err != nil {
		return "", err
	}
	var errs []error
	for _, parent := range tempParents() {
		if err := who.reaches(parent); err != nil {
			errs = append(errs, err)
			continue
		}
		dir, err := os.MkdirTemp(parent, tempPrefix)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return dir, os.Chmod(dir, 0o711)
	}
	return "", errors.Join(errs...)
}

// password returns the superuser's password and makes one up at the first call.
func (f *folder) password() (string, error) {
	b, err := os.ReadFile(f.path("password"))
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	password := rand.Text()
	return password, f.setPassword(password)
}

func (f *folder) setPassword(password string) error {
	return os.WriteFile(f.path("password"), []byte(password+"\n"), 0o600)
}

// lastPort is the port of the last start, or 0.
func (f *folder) lastPort() int {
	b, err := os.ReadFile(f.path("port"))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

func (f *folder) savePort(port int) error {
	return os.WriteFile(f.path("port"), []byte(strconv.Itoa(port)+"\n"), 0o600)
}

// freePort returns the preferred port if nothing listens on it, else one that the kernel chooses.
func freePort(ctx context.Context, preferred int) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(preferred))
	if err != nil && preferred != 0 {
		l, err = lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// portTaken reports whether the log says that the server ended because of its port.
func portTaken(log string) bool {
	log = strings.ToLower(log)
	return strings.Contains(log, "address already in use") || strings.Contains(log, "port is already allocated")
}

// newLog starts a new server log and keeps the one before.
func (f *folder) newLog() (*os.File, error) {
	path := f.path("server.log")
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// logTail is the end of the server log.
func (f *folder) logTail() string {
	const lines = 20
	b, err := os.ReadFile(f.path("server.log"))
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, []byte("\n")))
}
