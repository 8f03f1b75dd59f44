package localpg

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

func setAttributes(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
}

// isServerOf reports whether the process is alive and the server of the data folder. A server works in its data folder.
// A process that has ended but was not waited for has no folder.
func isServerOf(pid int, data string) bool {
	cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false
	}
	resolved, err := filepath.EvalSymlinks(data)
	return err == nil && cwd == resolved
}

// sharedMemory chooses where parallel queries share memory. In a container /dev/shm often has 64 MB, which such
// queries overrun; then it is files in the data folder.
func sharedMemory() map[string]string {
	const enough = 512 << 20
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err != nil || fs.Blocks*uint64(fs.Bsize) < enough {
		return map[string]string{"dynamic_shared_memory_type": "mmap"}
	}
	return nil
}
