// Package process holds what only real processes can show: what survives
// kill -9.
package process

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// binary builds the API server once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "metalstack-apiserver-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "metalstack-apiserver")
	out, err := exec.Command("go", "build", "-o", path, "metal-stack.io/infrastructure-apiserver/cmd/metalstack-apiserver").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// server is one data directory, and the process that serves it.
type server struct {
	dir  string
	port int
	url  string // of the metal-api
	cmd  *exec.Cmd
}

func newServer(t *testing.T, metalAPI string) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), port: freePort(t), url: metalAPI}
	s.start(t)
	t.Cleanup(func() { s.kill() })
	return s
}

// start starts the process and waits until it is ready.
func (s *server) start(t *testing.T) {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	s.cmd = exec.Command(path, "--standalone", "--data-dir", s.dir,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", s.port),
		"--kubeconfig-out", filepath.Join(s.dir, "kubeconfig"),
		"--project-binding", "team-a="+simulator.ProjectA,
		"--metal-api-url", s.url, "--metal-api-hmac-type", "Metal-Edit")
	s.cmd.Env = append(os.Environ(), "METAL_API_HMAC="+simulator.DefaultHMAC.Edit)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	require.NoError(t, s.cmd.Start())
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	ready := func() bool {
		res, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/readyz", s.port))
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	}
	if !waitFor(t.Context(), ready) {
		text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		t.Fatalf("not ready; its log:\n%s", text)
	}
}

// kill ends the process as a power cut would.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) client(t *testing.T) versioned.Interface {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir, "kubeconfig"))
	require.NoError(t, err)
	config.QPS = -1
	c, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	return c
}

func waitFor(ctx context.Context, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
