// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a program may take to end by itself.
const grace = 10 * time.Second

// A process is one running program, whose output goes to a file.
type process struct {
	name    string
	logFile string
	cmd     *exec.Cmd
	// ended is closed when the program has ended, for whatever reason; err
	// then says how.
	ended chan struct{}
	err   error
	// stopped keeps a later stop from a group that has the same number.
	stopped sync.Once
}

// start runs a program. It has to be called from the main goroutine: on Linux
// a child may be tied to the life of the thread that started it.
func start(logDir, name, program string, args, env []string) (*process, error) {
	p := &process{
		name:    name,
		logFile: filepath.Join(logDir, name+".log"),
		cmd:     exec.Command(program, args...),
		ended:   make(chan struct{}),
	}
	output, err := os.Create(p.logFile)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the child has its own copy
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.Env = append(os.Environ(), env...)
	// A process group of its own, so that Ctrl-C in the terminal reaches only
	// us, who stop the programs one after the other.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(p.cmd.SysProcAttr)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop ends the program and everything that it started, and returns when the
// program is gone and the rest is killed.
func (p *process) stop() {
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-p.ended:
		default:
			// A group that is gone already is fine.
			_ = syscall.Kill(-p.cmd.Process.Pid, how)
			select {
			case <-p.ended:
			case <-time.After(grace):
			}
		}
	}
	<-p.ended
	p.stopped.Do(func() {
		// Whoever of the group did not heed the first signal.
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	})
}

// exitReport says how the program ended, with the last lines of its log.
func (p *process) exitReport() error {
	how := "ended"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s: %s; the end of %s:\n%s", p.name, how, p.logFile, lastLines(p.logFile, 15))
}

// lastLines returns the last n lines of a file, or n from where a panic begins.
func lastLines(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	first := max(0, len(lines)-n)
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "panic: ") }); i >= 0 {
		first = min(first, i)
	}
	lines = lines[first:]
	return "    " + strings.Join(lines[:min(n, len(lines))], "\n    ")
}

var errRunning = errors.New("another run is under way")

// lock makes sure that only one run uses a directory. The lock ends with the
// process, however that ends.
func lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(file.Name())
		_ = file.Close()
		return nil, fmt.Errorf("%w in %s (process %s): stop it first, or name another --state", errRunning, dir, strings.TrimSpace(string(pid)))
	}
	if err := file.Truncate(0); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintln(file, os.Getpid())
	return file, err
}
