// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// errEnded: a program ended before it was ready.
var errEnded = errors.New("ended before it was ready")

// process is one running program, whose output goes to a file.
type process struct {
	name    string
	logFile string
	cmd     *exec.Cmd
	ended   chan struct{} // closed when it has ended
	err     error         // then says how
}

// spawner is the thread that starts all programs. The kernel kills them when
// it ends, and it ends with the process, however that ends.
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// spawn starts a program and appends its output to <dir>/<name>.log.
func spawn(dir, program string, flags ...string) (*process, error) {
	name := filepath.Base(program)
	p := &process{
		name:    name,
		logFile: filepath.Join(dir, name+".log"),
		cmd:     exec.Command(program, flags...),
		ended:   make(chan struct{}),
	}
	output, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the program has its own copy
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.Dir = dir
	// A fifth of a kube-apiserver's processor time goes into collecting garbage.
	p.cmd.Env = append([]string{"GOGC=200"}, os.Environ()...)
	// A group of its own: Ctrl-C is for the test process, and ends the others
	// through it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(p.cmd.SysProcAttr)
	started := make(chan error)
	spawner() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// ready waits until probe returns no error.
func (p *process) ready(ctx context.Context, probe func(context.Context) error) error {
	err := poll(ctx, startDeadline, func(ctx context.Context) error {
		select {
		case <-p.ended:
			return fatal{fmt.Errorf("%w: %w", errEnded, p.exitReport())}
		default:
			return probe(ctx)
		}
	})
	if err != nil && !errors.Is(err, errEnded) {
		return fmt.Errorf("%s is not ready: %w; the last errors in its log:\n%s", p.name, err, lastErrors(p.logFile, 15))
	}
	return err
}

// kill ends the program at once, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// exitReport says how the program ended, with the last lines of its log.
func (p *process) exitReport() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended by itself: %s; the last errors in its log:\n%s", p.name, how, lastErrors(p.logFile, 15))
}

// lastErrors returns the last n lines of a log that are neither information nor
// warnings: these programs warn of much while all is well.
func lastErrors(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	lines = slices.DeleteFunc(lines, harmless.MatchString)
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}

// harmless is how klog's and etcd's lines of information and warnings begin.
var harmless = regexp.MustCompile(`^([IW]\d{4} |\{"level":"(debug|info|warn)")`)

// fatal is an error that ends a poll.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// poll calls probe until it succeeds, fails fatally, or the time is over; then
// its last error is returned.
func poll(ctx context.Context, limit time.Duration, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, done := context.WithTimeout(ctx, 5*time.Second)
		err := probe(attempt)
		done()
		if err == nil || errors.As(err, &fatal{}) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", limit, err)
		case <-tick.C:
		}
	}
}
