// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
)

// serve serves a registry until the end of the test, and returns a program's name in it.
func serve(t *testing.T, handler http.Handler) name.Tag {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	tag, err := images.Reference(strings.TrimPrefix(server.URL, "http://")+"/metal", images.Programs()[0], stamp)
	require.NoError(t, err)
	return tag
}

func newRegistry() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

// impatient retries once, and soon.
func impatient() remote.Option {
	return remote.WithRetryBackoff(remote.Backoff{Duration: time.Millisecond, Steps: 2})
}

func TestPush_PushesAllPlatforms(t *testing.T) {
	t.Parallel()
	tag := serve(t, newRegistry())
	index := indexOf(t, images.Programs()[0], "program")
	require.NoError(t, images.Push(t.Context(), tag, index, false))
	pulled, err := remote.Index(tag)
	require.NoError(t, err)
	assert.Equal(t, digestOf(t, index), digestOf(t, pulled))
	require.NoError(t, validate.Index(pulled))
}

func TestPush_LeavesAReleasedTag(t *testing.T) {
	t.Parallel()
	var writes atomic.Int32
	inner := newRegistry()
	tag := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			writes.Add(1)
		}
		inner.ServeHTTP(w, r)
	}))
	released, other := indexOf(t, images.Programs()[0], "program"), indexOf(t, images.Programs()[0], "another")
	require.NoError(t, images.Push(t.Context(), tag, released, false))
	assert.Positive(t, writes.Swap(0))

	require.NoError(t, images.Push(t.Context(), tag, released, false), "once more")
	err := images.Push(t.Context(), tag, other, false)
	require.ErrorContains(t, err, "a released tag must not change")
	assert.ErrorContains(t, err, digestOf(t, released))
	assert.ErrorContains(t, err, digestOf(t, other))
	assert.Zero(t, writes.Load(), "neither wrote anything")
	there, err := remote.Head(tag)
	require.NoError(t, err)
	assert.Equal(t, digestOf(t, released), there.Digest.String())

	require.NoError(t, images.Push(t.Context(), tag, other, true))
	there, err = remote.Head(tag)
	require.NoError(t, err)
	assert.Equal(t, digestOf(t, other), there.Digest.String())
}

func TestPush_SaysWhyTheRegistryRefuses(t *testing.T) {
	t.Parallel()
	const password = "t0ps3cret"
	index := indexOf(t, images.Programs()[0], "program")
	for status, hint := range map[int]string{
		http.StatusUnauthorized:        "docker login",
		http.StatusForbidden:           "may not do that in metal/" + images.Programs()[0].Name,
		http.StatusTooManyRequests:     "retry",
		http.StatusInternalServerError: "retry",
		http.StatusServiceUnavailable:  "retry",
		http.StatusBadRequest:          "the registry refused it",
	} {
		for _, method := range []string{http.MethodHead, http.MethodPost} {
			t.Run(fmt.Sprint(method, status), func(t *testing.T) {
				t.Parallel()
				inner := newRegistry()
				tag := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					// A registry that asks for the password, and shows what it got.
					if r.URL.Path == "/v2/" {
						w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					if r.Method != method {
						inner.ServeHTTP(w, r)
						return
					}
					_, got, _ := r.BasicAuth()
					assert.Equal(t, password, got)
					w.WriteHeader(status)
					fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s %s"}]}`, got, r.Header.Get("Authorization"))
				}))
				err := images.Push(t.Context(), tag, index, false, impatient(), remote.WithAuth(&authn.Basic{Username: "robot", Password: password}))
				require.ErrorContains(t, err, fmt.Sprintf("%d %s", status, http.StatusText(status)))
				assert.ErrorContains(t, err, hint)
				assert.ErrorContains(t, err, tag.String())
				assert.NotContains(t, err.Error(), password)
				assert.NotContains(t, err.Error(), "Basic ")
			})
		}
	}
}

// Half of the blobs arrived: no tag names them.
func TestPush_TagsLast(t *testing.T) {
	t.Parallel()
	inner := newRegistry()
	var manifests atomic.Int32
	tag := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && manifests.Add(1) > 1 {
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	index := indexOf(t, images.Programs()[0], "program")
	require.Error(t, images.Push(t.Context(), tag, index, false, impatient()))
	_, err := remote.Head(tag)
	require.Error(t, err)
	manifests.Store(-100)
	require.NoError(t, images.Push(t.Context(), tag, index, false), "a retry completes it")
	pulled, err := remote.Index(tag)
	require.NoError(t, err)
	require.NoError(t, validate.Index(pulled))
}

func TestPush_ReportsARegistryThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newRegistry())
	server.Close()
	tag, err := images.Reference(strings.TrimPrefix(server.URL, "http://"), images.Programs()[0], stamp)
	require.NoError(t, err)
	index := indexOf(t, images.Programs()[0], "program")
	err = images.Push(t.Context(), tag, index, false, impatient())
	require.ErrorContains(t, err, "failed to look up "+tag.String())
	assert.ErrorContains(t, err, "connection refused")
}

// TestPush_ShowsNoSignatureOfAnUpload whose connection is lost.
func TestPush_ShowsNoSignatureOfAnUpload(t *testing.T) {
	t.Parallel()
	tag := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "/upload?signature=t0ps3cret&expires=1")
			w.WriteHeader(http.StatusAccepted)
		case r.URL.Path == "/upload":
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	err := images.Push(t.Context(), tag, indexOf(t, images.Programs()[0], "program"), false, impatient())
	require.ErrorContains(t, err, "/upload?…")
	assert.NotContains(t, err.Error(), "t0ps3cret")
}

func TestReference_NeedsAHost(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	for registry, want := range map[string]string{
		"ghcr.io/metal-stack": "ghcr.io/metal-stack/" + program.Name + ":" + stamp.Version,
		"localhost:5000":      "localhost:5000/" + program.Name + ":" + stamp.Version,
		"localhost/a/b":       "localhost/a/b/" + program.Name + ":" + stamp.Version,
	} {
		tag, err := images.Reference(registry, program, stamp)
		require.NoError(t, err, registry)
		assert.Equal(t, want, tag.String())
	}
	for _, registry := range []string{"", "metal-stack", "/metal-stack", "https://ghcr.io/metal-stack", "ghcr.io/Metal Stack", "ghcr.io/", "ghcr.io//a", "ghcr.io:x/a"} {
		_, err := images.Reference(registry, program, stamp)
		require.ErrorContains(t, err, "invalid registry", registry)
		assert.ErrorContains(t, err, "ghcr.io/metal-stack", "what is valid")
	}
	_, err := images.Reference("robot:t0ps3cret@ghcr.io/metal-stack", program, stamp)
	require.ErrorContains(t, err, "without credentials")
	assert.NotContains(t, err.Error(), "t0ps3cret")
	_, err = images.Reference("ghcr.io", program, build.Stamp{Version: strings.Repeat("v", 200)})
	assert.Error(t, err, "a tag has at most 128 characters")
}
