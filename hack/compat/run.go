// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

const (
	// packageTimeout ends the tests of one package.
	packageTimeout = 20 * time.Minute
	// endDelay is how long they may take to stop their programs when they are interrupted.
	endDelay = 30 * time.Second
)

// runner runs tests against versions of Kubernetes.
type runner struct {
	logs string
	out  io.Writer
}

// outcome is what became of the tests of one package.
type outcome struct {
	// results are pass, fail or skip, by the full name of a test or subtest.
	results map[string]string
	// reasons are why tests were skipped.
	reasons map[string]string
	// err says how the process ended, if not well.
	err error
	log string
}

// build compiles the tests once for all versions.
func (r *runner) build(ctx context.Context, packages []string) error {
	fmt.Fprintln(r.out, "building the tests (with cold caches: some minutes)")
	dir := filepath.Join(r.logs, "tests")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	args := []string{"test", "-c", "-o", dir + "/"}
	for _, p := range packages {
		args = append(args, "./"+p)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("failed to build the tests: %w\n%s", err, out)
	}
	return nil
}

// run runs the tests of all areas against a version. It returns an error if that was
// interrupted or could not begin.
func (r *runner) run(ctx context.Context, v version, areas []area) (map[string]*outcome, error) {
	outcomes := map[string]*outcome{}
	for _, p := range packages(areas) {
		began := time.Now()
		o, err := r.runPackage(ctx, v, p, pattern(areas, p))
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		outcomes[p] = o
		counts := map[string]int{}
		for _, result := range o.results {
			counts[result]++
		}
		fmt.Fprintf(r.out, "%-9s %-28s %3d passed, %d failed, %d skipped in %s\n", v.full, p, counts[pass], counts[fail], counts[skip], time.Since(began).Round(time.Second))
		if o.err != nil {
			fmt.Fprintf(r.out, "%-9s %s: %v: see %s\n", v.full, p, o.err, o.log)
		}
	}
	return outcomes, nil
}

func (r *runner) runPackage(ctx context.Context, v version, p, pattern string) (*outcome, error) {
	dir := filepath.Join(r.logs, v.minor)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, filepath.Base(p)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	binary := filepath.Join(r.logs, "tests", filepath.Base(p)+".test")
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", binary, "-test.v=test2json", "-test.run="+pattern, "-test.timeout="+packageTimeout.String())
	cmd.Dir = p
	cmd.Env = append(os.Environ(), controlplane.BinEnv+"="+v.bin)
	cmd.Stderr = log
	// test2json passes no signal on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = endDelay
	events, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	o := read(events, log)
	o.log = log.Name()
	o.err = cmd.Wait()
	return o, nil
}

const pass, fail, skip = "pass", "fail", "skip"

// event is one of `go doc test2json`.
type event struct{ Action, Test, Output string }

// logLine is a line that a test logged, such as the reason for which it is skipped. What
// other code prints meanwhile is not.
var logLine = regexp.MustCompile(`^\s+\w+\.go:\d+: (.*\S)\s*$`)

// read reads the events of a test process, and writes what it printed to a log.
func read(events io.Reader, log io.Writer) *outcome {
	o := &outcome{results: map[string]string{}, reasons: map[string]string{}}
	last := map[string]string{} // the last line that a test logged
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			fmt.Fprint(log, e.Output)
			switch e.Action {
			case "output":
				if logged := logLine.FindStringSubmatch(e.Output); logged != nil {
					last[e.Test] = logged[1]
				}
			case skip:
				o.reasons[e.Test] = last[e.Test]
				fallthrough
			case pass, fail:
				if e.Test != "" {
					o.results[e.Test] = e.Action
				}
			}
		}
		if err != nil {
			return o
		}
	}
}
