// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

const (
	// crawl is how many bytes a second a slow watcher reads: some three events.
	crawl = 10 << 10
	// crawlBuffer is how much of a watch its connection takes ahead of it.
	crawlBuffer = 64 << 10
	// readsASecond is into how many reads a slow watcher's second is divided.
	readsASecond = 10
)

// newCrawler is a client whose connection takes little ahead of what is read.
func newCrawler(t testing.TB, config *rest.Config) *client {
	t.Helper()
	tlsConfig, err := rest.TLSConfigFor(config)
	require.NoError(t, err)
	transport, err := rest.HTTPWrappersForConfig(config, &http.Transport{
		TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableCompression: true, IdleConnTimeout: time.Second,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: crawlBuffer},
	})
	require.NoError(t, err)
	c := &client{Client: &http.Client{Transport: transport}, host: config.Host}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// slowReader reads a few bytes at a time.
type slowReader struct {
	io.Reader
	ctx          context.Context
	bytesASecond int
}

// Read implements io.Reader.
func (r *slowReader) Read(p []byte) (int, error) {
	pause := time.NewTimer(time.Second / readsASecond)
	defer pause.Stop()
	select {
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	case <-pause.C:
	}
	return r.Reader.Read(p[:min(len(p), r.bytesASecond/readsASecond)])
}
