package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/machine"
)

// tick is the unit of times in /proc/PID/stat. Linux tells every program 100 a second, whatever it counts in itself.
const tick = 10 * time.Millisecond

// errNoProc means that the system does not tell about processes as Linux does.
var errNoProc = errors.New("there is no /proc of Linux's here")

// peaks are the most memory in KiB that processes of a kind have held. The zero value is ready to use.
type peaks struct {
	mu   sync.Mutex
	most map[string]int
}

// note looks at a process. It does nothing where the system does not tell.
func (p *peaks) note(kind string, pid int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return
	}
	kib := parsePeak(status)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most == nil {
		p.most = make(map[string]int)
	}
	p.most[kind] = max(p.most[kind], kib)
}

// of returns 0 if no process of the kind was looked at.
func (p *peaks) of(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most[kind]
}

// parsePeak returns VmHWM in KiB, or 0.
func parsePeak(status []byte) int { return int(machine.KiB(status, "VmHWM")) }

// stat is what /proc/PID/stat says of a process.
type stat struct {
	pid, parent int
	used        time.Duration // of CPU, by itself
	reaped      time.Duration // of CPU, by children that have ended
}

func readStat(pid int) (stat, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, errors.Join(errNoProc, err)
	}
	return parseStat(line)
}

func parseStat(line []byte) (stat, error) {
	// The name of the program stands in parentheses and may have any character.
	name := bytes.LastIndexByte(line, ')')
	begin, _, ok := bytes.Cut(line, []byte(" "))
	fields := strings.Fields(string(line[name+1:]))
	if name < 0 || !ok || len(fields) < 15 {
		return stat{}, fmt.Errorf("%q is not what /proc/PID/stat says", line)
	}
	var numbers [6]int
	for i, field := range []string{string(begin), fields[1], fields[11], fields[12], fields[13], fields[14]} {
		var err error
		if numbers[i], err = strconv.Atoi(field); err != nil {
			return stat{}, fmt.Errorf("parse /proc/PID/stat: %w", err)
		}
	}
	return stat{
		numbers[0], numbers[1], time.Duration(numbers[2]+numbers[3]) * tick, time.Duration(numbers[4]+numbers[5]) * tick,
	}, nil
}

// usedBy returns the CPU time that the processes have used so far.
func usedBy(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil {
			return 0, err
		}
		sum += s.used
	}
	return sum, nil
}

// usedByPostgres returns the CPU time that all processes of the server have used so far, those that have ended too. It returns
// errNoProc if the server runs elsewhere, or as a user whose processes are hidden from us.
func usedByPostgres(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	var pid int
	if err := pool.QueryRow(ctx, statement("backend")).Scan(&pid); err != nil {
		return 0, err
	}
	backend, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err != nil || !strings.HasPrefix(string(name), "postgres") {
		return 0, errNoProc // On another machine, or in a container: the number is of some other process here.
	}
	server, err := readStat(backend.parent)
	if err != nil {
		return 0, err
	}
	sum := server.used + server.reaped
	lines, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // It has ended just now.
		}
		if child, err := parseStat(line); err == nil && child.parent == server.pid {
			sum += child.used
		}
	}
	return sum, nil
}
