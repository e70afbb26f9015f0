// SPDX-License-Identifier: Apache-2.0

// Package standalone runs the API server as a process of its own, without a
// cluster, for tests that kill it or measure it.
package standalone

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// readyLimit is how long a start may take.
const readyLimit = 2 * time.Minute

// Options are what tests want differently.
type Options struct {
	// MetalAPI is the URL of a simulator with its default keys.
	MetalAPI string
	// Bindings are project bindings, NAMESPACE=PROJECT.
	Bindings []string
	// Args are added to the server's arguments.
	Args []string
}

// Server is a data directory, and the process that serves it.
type Server struct {
	// Kubeconfig is the administrator's, over all starts.
	Kubeconfig string

	t    testing.TB
	url  string
	log  string
	args []string
	cmd  *exec.Cmd // nil if no process runs
}

var (
	buildFlags []string
	// program builds the API server once for all tests of a process.
	program = sync.OnceValues(func() (path string, err error) {
		dir, err := build.Programs(buildFlags, "./cmd/metalstack-apiserver")
		return filepath.Join(dir, "metalstack-apiserver"), err
	})
)

// Main runs the tests of a package, for which the server is built with the flags
// of go build, and returns the exit code.
func Main(m *testing.M, flags ...string) int {
	buildFlags = flags
	return m.Run()
}

// Start starts a server with a data directory of its own, and waits until it is
// ready. The process is killed at the end of the test if it still runs.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	dir := t.TempDir()
	port, err := controlplane.FreePort()
	require.NoError(t, err)
	s := &Server{
		Kubeconfig: filepath.Join(dir, "kubeconfig"),
		t:          t, url: fmt.Sprintf("https://127.0.0.1:%d", port), log: filepath.Join(dir, "log"),
	}
	s.args = []string{
		"--standalone", "--data-dir", dir, "--kubeconfig-out", s.Kubeconfig,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--metal-api-url", o.MetalAPI, "--metal-api-hmac-type", "Metal-Edit",
	}
	for _, binding := range o.Bindings {
		s.args = append(s.args, "--project-binding", binding)
	}
	s.args = append(s.args, o.Args...)
	t.Cleanup(s.Kill)
	s.Start()
	return s
}

// Start starts the process, which must not run, and waits until it is ready.
func (s *Server) Start() {
	s.t.Helper()
	path, err := program()
	require.NoError(s.t, err)
	log, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(s.t, err)
	defer log.Close()
	cmd := exec.Command(path, s.args...)
	cmd.Env = append(os.Environ(), "METAL_API_HMAC="+simulator.DefaultHMAC.Edit)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(s.t, cmd.Start())
	s.cmd = cmd
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	framework.Eventually(s.t, readyLimit, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.Log())
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s\n%s", res.Status, s.Log())
		}
		return nil
	}, "the server to be ready")
}

// Kill ends the process as a power cut would, if it runs.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Stop has the process, which must run, end in order. It returns an error if it
// does not.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(os.Interrupt)
	err := s.cmd.Wait()
	s.cmd = nil
	return err
}

// Log is what the process wrote, over all its starts.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.log)
	return string(text)
}

// Config is the administrator's, without rate limits.
func (s *Server) Config() *rest.Config {
	s.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	require.NoError(s.t, err)
	config.QPS = -1
	return config
}
