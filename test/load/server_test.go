package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/cluster"
)

// limit ends whatever is waited for that does not depend on the size of the load.
const limit = 2 * time.Minute

// program builds the API server once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "metalstack-apiserver-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "metalstack-apiserver")
	args := append([]string{"build", "-o", path}, raceFlags...)
	out, err := exec.Command("go", append(args, "metal-stack.io/infrastructure-apiserver/cmd/metalstack-apiserver")...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
})

func removeProgram() {
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
}

// server is the program over a data directory of its own.
type server struct {
	t       testing.TB
	dir     string
	cmd     *exec.Cmd
	config  *rest.Config
	clients []*http.Client
	// scraper asks for metrics over a connection of its own each time, so that it
	// is part of no figure.
	scraper *http.Client
}

// startServer starts the program for namespaces that are bound to projects, and
// stops it with the test. It must end in order, and complain of nothing.
func startServer(t testing.TB, metalAPI string, bind []string) *server {
	t.Helper()
	path, err := program()
	require.NoError(t, err)
	s := &server{t: t, dir: t.TempDir()}
	port := freePort(t)
	kubeconfig := filepath.Join(s.dir, "kubeconfig")
	args := []string{"--standalone", "--data-dir", s.dir, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--kubeconfig-out", kubeconfig, "--metal-api-url", metalAPI, "--metal-api-hmac-type", "Metal-Edit"}
	for _, b := range bind {
		args = append(args, "--project-binding", b)
	}
	s.cmd = exec.Command(path, args...)
	s.cmd.Env = append(os.Environ(), "METAL_API_HMAC="+simulator.DefaultHMAC.Edit)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	require.NoError(t, s.cmd.Start())
	t.Cleanup(s.stop)
	insecure := &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	s.eventually("the server to be ready", func(context.Context) error {
		res, err := insecure.Get(fmt.Sprintf("https://127.0.0.1:%d/readyz", port))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s\n%s", res.Status, s.log())
		}
		return nil
	})
	s.config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	s.config.QPS = -1
	files, err := rest.TLSConfigFor(s.config)
	require.NoError(t, err)
	s.scraper = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: files, DisableKeepAlives: true}}
	return s
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the server ended with an error: %v", err)
	}
	for _, complaint := range []string{"DATA RACE", "panic: ", "fatal error: "} {
		if text := s.log(); strings.Contains(text, complaint) {
			s.t.Errorf("%s in the server's log:\n%s", complaint, text[strings.Index(text, complaint):])
		}
	}
}

func (s *server) log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text)
}

// client is one client more, with a connection of its own as another process
// would have it; wrap may be nil.
func (s *server) client(wrap func(http.RoundTripper) http.RoundTripper) versioned.Interface {
	s.t.Helper()
	config := rest.CopyConfig(s.config)
	config.Dial = (&net.Dialer{}).DialContext
	config.WrapTransport = wrap
	config.WarningHandler = rest.NoWarnings{}
	transport, err := rest.HTTPClientFor(config)
	require.NoError(s.t, err)
	s.clients = append(s.clients, transport)
	c, err := versioned.NewForConfigAndClient(config, transport)
	require.NoError(s.t, err)
	return c
}

// hangUp closes the connections of clients that are gone.
func (s *server) hangUp() {
	for _, c := range s.clients {
		utilnet.CloseIdleConnectionsFor(c.Transport)
	}
}

// figures are the server's metrics; those with labels are summed up.
type figures map[string]float64

func (s *server) figures(ctx context.Context) (figures, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.Host+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := s.scraper.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		return nil, err
	}
	f := figures{}
	for line := range strings.Lines(text.String()) {
		series, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || !found {
			continue
		}
		if cut := strings.LastIndex(line, "} "); cut >= 0 {
			series, value = line[:cut+1], strings.TrimSpace(line[cut+2:])
		}
		name, _, _ := strings.Cut(series, "{")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			f[name] += number
		}
	}
	return f, nil
}

// eventually waits until ask succeeds, and fails the test if it never does.
func (s *server) eventually(what string, ask func(context.Context) error) {
	s.t.Helper()
	cluster.Eventually(s.t, limit, ask, what)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
