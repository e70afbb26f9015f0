// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/responsewriter"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/inflight"
)

// probeInterval is how often the checks run at most, however many probes there are.
const probeInterval = 100 * time.Millisecond

// healthProbes answers health probes without credentials: only whether the server is
// healthy, without details of the checks.
type healthProbes struct {
	paths map[string]*cachedCheck
}

// newHealthProbes returns the handler of the paths for which health has the details.
func newHealthProbes(health http.Handler) *healthProbes {
	p := &healthProbes{paths: map[string]*cachedCheck{}}
	for _, path := range inflight.HealthPaths {
		p.paths[path] = &cachedCheck{health: health, path: path}
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *healthProbes) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	found := p.paths[req.URL.Path]
	query := req.URL.Query()
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		writeText(w, req, http.StatusMethodNotAllowed, "only GET and HEAD are allowed")
	case found == nil, query.Has("verbose"), query.Has("exclude"):
		writeText(w, req, http.StatusUnauthorized, "details of health checks require authorization; paths that do not are "+strings.Join(inflight.HealthPaths, ", "))
	case found.healthy():
		writeText(w, req, http.StatusOK, "ok")
	default:
		writeText(w, req, http.StatusInternalServerError, fmt.Sprintf("%s check failed", strings.TrimPrefix(req.URL.Path, "/")))
	}
}

func writeText(w http.ResponseWriter, req *http.Request, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	if req.Method != http.MethodHead {
		_, _ = w.Write([]byte(text)) // the client has disconnected
	}
}

// cachedCheck is the last result of the checks at one path.
type cachedCheck struct {
	health http.Handler
	path   string

	mu         sync.Mutex
	checkedAt  time.Time
	lastResult bool
}

func (c *cachedCheck) healthy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checkedAt.IsZero() || time.Since(c.checkedAt) >= probeInterval {
		c.lastResult = c.check()
		c.checkedAt = time.Now()
	}
	return c.lastResult
}

// check runs the checks, as a request that needs no authorization.
func (c *cachedCheck) check() bool {
	ctx := request.WithRequestInfo(context.Background(), &request.RequestInfo{Path: c.path, Verb: "get"})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.path, nil)
	if err != nil {
		return false
	}
	w := responsewriter.NewInMemoryResponseWriter()
	c.health.ServeHTTP(w, req)
	return w.RespCode() == http.StatusOK
}
