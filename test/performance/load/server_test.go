// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/standalone"
)

// limit ends whatever is waited for that does not depend on the size of the load.
const limit = 2 * time.Minute

// server is the program over a data directory of its own.
type server struct {
	*standalone.Server
	t       testing.TB
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
	s := &server{Server: standalone.Start(t, standalone.Options{MetalAPI: metalAPI, Bindings: bind}), t: t}
	t.Cleanup(s.stop)
	s.config = s.Config()
	files, err := rest.TLSConfigFor(s.config)
	require.NoError(t, err)
	s.scraper = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: files, DisableKeepAlives: true}}
	return s
}

func (s *server) stop() {
	if err := s.Stop(); err != nil {
		s.t.Errorf("the server ended with an error: %v", err)
	}
	for _, complaint := range []string{"DATA RACE", "panic: ", "fatal error: "} {
		if text := s.Log(); strings.Contains(text, complaint) {
			s.t.Errorf("%s in the server's log:\n%s", complaint, text[strings.Index(text, complaint):])
		}
	}
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
	framework.Eventually(s.t, limit, ask, what)
}
