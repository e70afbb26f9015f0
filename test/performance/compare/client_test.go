// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// client is an HTTP client with a connection of its own, as another process would
// have it. It takes answers as bytes, so that decoding is part of no figure.
type client struct {
	*http.Client
	host string
	// answers and stale count answers, and those with a warning.
	answers, stale atomic.Int64
}

func newClient(t testing.TB, config *rest.Config) *client {
	t.Helper()
	config = rest.CopyConfig(config)
	config.Dial = (&net.Dialer{}).DialContext
	config.DisableCompression = true // headers ask for it, so that bytes can be counted
	transport, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	c := &client{Client: transport, host: config.Host}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// answer is a complete answer.
type answer struct {
	body []byte
	took time.Duration
}

func (c *client) get(ctx context.Context, path string, headers map[string]string) (*answer, error) {
	return c.send(ctx, http.MethodGet, path, headers, nil)
}

// send sends a request and reads the whole answer, which has to be a success.
func (c *client) send(ctx context.Context, method, path string, headers map[string]string, body []byte) (*answer, error) {
	began := time.Now()
	response, err := c.open(ctx, method, path, headers, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return &answer{body: content, took: time.Since(began)}, nil
}

// open sends a request, and leaves the body of the answer to the caller.
func (c *client) open(ctx context.Context, method, path string, headers map[string]string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for key, value := range headers {
		request.Header.Set(key, value)
	}
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	c.answers.Add(1)
	if response.Header.Get("Warning") != "" {
		c.stale.Add(1)
	}
	if response.StatusCode >= http.StatusBadRequest {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return nil, &statusError{code: response.StatusCode, text: fmt.Sprintf("%s %s: %s: %s", method, path, response.Status, text)}
	}
	return response, nil
}

// statusError is an answer that is no success.
type statusError struct {
	code int
	text string
}

// Error implements error.
func (e *statusError) Error() string { return e.text }

// retriable is whether clients send the request again: the server has too much to do.
func (e *statusError) retriable() bool {
	return e.code == http.StatusTooManyRequests || e.code == http.StatusServiceUnavailable
}

// path is that of a kind's objects, of one namespace or of all, or of one object.
func (s *side) path(namespace, name string, query ...string) string {
	path := "/apis/" + s.version.String()
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	path += "/" + resource
	if name != "" {
		path += "/" + name
	}
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	return path
}

// count is how many items or rows a list has.
func (a *answer) count() (int, error) {
	var list struct {
		Items, Rows []struct{}
	}
	err := json.Unmarshal(a.body, &list)
	return len(list.Items) + len(list.Rows), err
}

// inflate makes the body what it was before it was compressed.
func (a *answer) inflate() error {
	reader, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		return fmt.Errorf("the answer is not compressed: %w", err)
	}
	a.body, err = io.ReadAll(reader)
	return err
}
