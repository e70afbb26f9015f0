// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

const root = "../.."

// programs builds what `make run` builds, once for all tests.
var programs = sync.OnceValues(func() (dir string, err error) {
	return build.Programs(nil, "./cmd/metal-api-simulator", "./cmd/metalstack-apiserver", "./cmd/metalstack-controller-manager", "./cmd/kubectl-metal", "./hack/run")
})

// running is a run under test, started as `make run` starts it.
type running struct {
	cmd    *exec.Cmd
	output lockedBuffer
	state  string
	// ended delivers how it ended.
	ended chan error
}

func startRun(t *testing.T, bin string, args ...string) *running {
	t.Helper()
	r := &running{state: t.TempDir(), ended: make(chan error, 1)}
	r.cmd = exec.Command(filepath.Join(bin, "run"), append([]string{"--bin", bin, "--state", r.state, "--speed", "60"}, args...)...)
	r.cmd.Dir = root
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	require.NoError(t, r.cmd.Start())
	go func() { r.ended <- r.cmd.Wait() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("output:\n%s", r.output.String())
			for _, name := range []string{"metalstack-apiserver", "metalstack-controller-manager"} {
				t.Logf("%s:\n%s", name, lastLines(filepath.Join(r.state, name+".log"), 20))
			}
		}
	})
	return r
}

// untilShown waits for the point at which it prints what to type.
func (r *running) untilShown(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if strings.Contains(r.output.String(), "Ctrl-C stops") {
			return
		}
		select {
		case err := <-r.ended:
			t.Fatalf("it ended: %v", err)
		default:
		}
	}
	t.Fatal("it does not get ready")
}

// leftNothing checks that no process listens on the addresses that were printed.
func (r *running) leftNothing(t *testing.T) {
	t.Helper()
	require.NoError(t, r.left(t))
}

// left returns an error if a process listens on an address that was printed.
func (r *running) left(t *testing.T) error {
	t.Helper()
	addresses := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(r.output.String(), -1)
	require.NotEmpty(t, addresses)
	for _, address := range addresses {
		if connection, err := net.Dial("tcp", address); err == nil {
			_ = connection.Close()
			return fmt.Errorf("a process still listens on %s", address)
		}
	}
	return nil
}

// TestRun_ExamplesPhoneHome: everything is stopped afterwards.
func TestRun_ExamplesPhoneHome(t *testing.T) {
	bin, err := programs()
	require.NoError(t, err)
	r := startRun(t, bin, "--until-ready")

	require.NoError(t, <-r.ended)
	require.Contains(t, r.output.String(), "machines and firewalls have phoned home")
	r.leftNothing(t)
}

func TestRun_InterruptStopsAll(t *testing.T) {
	bin, err := programs()
	require.NoError(t, err)
	r := startRun(t, bin)
	r.untilShown(t)

	second := exec.Command(filepath.Join(bin, "run"), "--bin", bin, "--state", r.state)
	second.Dir = root
	said, err := second.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(said), errRunning.Error())

	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, <-r.ended, "a canceled context is no error")
	r.leftNothing(t)
}

// TestRun_ExitOfOneProgramStopsAll: the report of the program that ended
// contains its last log lines.
func TestRun_ExitOfOneProgramStopsAll(t *testing.T) {
	bin, err := programs()
	require.NoError(t, err)
	broken := t.TempDir()
	for _, name := range []string{"metal-api-simulator", "metalstack-apiserver", "run"} {
		require.NoError(t, os.Symlink(filepath.Join(bin, name), filepath.Join(broken, name)))
	}
	script := "#!/bin/sh\nsleep 2\necho I cannot go on\nexit 3\n"
	require.NoError(t, os.WriteFile(filepath.Join(broken, "metalstack-controller-manager"), []byte(script), 0o755))

	r := startRun(t, broken)
	err = <-r.ended
	require.Error(t, err)
	require.Contains(t, r.output.String(), "metalstack-controller-manager: exit status 3")
	require.Contains(t, r.output.String(), "I cannot go on")
	r.leftNothing(t)
}

func TestRun_KillLeavesNothing(t *testing.T) {
	if !diesWithUs {
		t.Skip("only Linux ties children to their parent's life")
	}
	bin, err := programs()
	require.NoError(t, err)
	r := startRun(t, bin)
	r.untilShown(t)
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGKILL))
	<-r.ended
	// The kernel kills the programs, which takes a moment.
	framework.Eventually(t, time.Minute, func(context.Context) error { return r.left(t) })
}

// lockedBuffer may be read while a program writes to it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
