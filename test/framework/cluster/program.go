// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// Program is one replica: a process, and the Pod object that stands for it. It
// can be stopped or killed, and started again, as a container can in its Pod.
type Program struct {
	// Name is the Pod's.
	Name string
	Pod  *controlplane.Pod
	// URL is where the process itself is reached, past the kube-apiserver.
	URL string
	// Ports are the process's, by the names that the container gives them.
	Ports map[string]int
	// Account is the program's own way to the kube-apiserver.
	Account *rest.Config
	// Mounts is the directory that stands for the container's last volume.
	Mounts string

	path, ready, log string
	args, env        []string

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
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

// Start starts the process anew.
func (p *Program) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C is for the test process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	require.NoError(t, <-started)
	p.cmd, p.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(p.ended)
}

// AwaitReady waits until the process says that it is ready, and then says so
// of its Pod.
func (p *Program) AwaitReady(t testing.TB) {
	t.Helper()
	p.AwaitReadyWithin(t, readyLimit)
}

// AwaitReadyWithin is AwaitReady for a process that may have to wait for
// others itself.
func (p *Program) AwaitReadyWithin(t testing.TB, limit time.Duration) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	framework.EventuallyRetrying(t, limit, func(ctx context.Context) error {
		select {
		case <-p.ended:
			t.Fatalf("%s ended: %s; the end of its log:\n%s", p.Name, p.cmd.ProcessState, p.lastLines(20))
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+p.ready, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s", p.Name, p.ready, response.Status)
		}
		return nil
	})
	p.Pod.SetReady(t, true)
}

// Stop asks the process to end, as a kubelet does, and waits until it has. Its
// Pod is not ready any more from then on.
func (p *Program) Stop(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.Ended()
	p.Pod.SetReady(t, false)
}

// Kill ends the process at once. Nobody says so of its Pod.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Terminate does what `kubectl delete pod` makes of the Pod and its process,
// except that the Pod object stays, as one that is going, until it is deleted.
func (p *Program) Terminate(t testing.TB) {
	t.Helper()
	p.Pod.Terminate(t)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// pauseTimeout is how long the threads of a process may take to stop.
const pauseTimeout = time.Minute

// Pause stops the process in the middle of whatever it does, until Resume.
func (p *Program) Pause(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	framework.Eventually(t, pauseTimeout, func(context.Context) error { return checkStopped(p.cmd.Process.Pid) })
}

// Resume lets a process go on that was paused.
func (p *Program) Resume(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

// PID is the id of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// ExitCode is that of a process that has ended; -1 after a signal.
func (p *Program) ExitCode() int {
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// Log is what the process has written so far, over all its starts.
func (p *Program) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return string(text)
}

func (p *Program) lastLines(n int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *Program) cleanup(t testing.TB) {
	p.Kill()
	if t.Failed() {
		t.Logf("the end of %s's log:\n%s", p.Name, p.lastLines(20))
		if text, err := os.ReadFile(p.log); err == nil {
			_ = os.WriteFile(filepath.Join(t.ArtifactDir(), filepath.Base(p.log)), text, 0o600)
		}
	}
}

// prebuilt is a directory of programs that were built before; "" for none.
var prebuilt string

// UsePrograms has programs run from a directory that they were built into
// before, instead of being built by this process. It is called before anything
// else of this package.
func UsePrograms(dir string) { prebuilt = dir }

// built is the directory of our programs, which are built once for the tests of
// a process.
var built = sync.OnceValues(func() (dir string, err error) {
	return build.Programs(nil, "./cmd/"+APIServer, "./cmd/"+Manager)
})

// Binary is the path of one of our programs.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir := prebuilt
	if dir == "" {
		var err error
		dir, err = built()
		require.NoError(t, err)
	}
	path := filepath.Join(dir, name)
	_, err := os.Stat(path)
	require.NoError(t, err)
	return path
}

// Main runs the tests, and removes what they shared. It is the TestMain of
// every package that uses this one.
func Main(m *testing.M) int { return controlplane.Main(m) }
