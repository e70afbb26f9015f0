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

// probeInterval is how often the checks run at most, however often somebody
// asks for their outcome.
const probeInterval = 100 * time.Millisecond

// probes answers those who ask for health without credentials: whether the
// server is healthy, and nothing about the checks.
type probes struct {
	paths map[string]*probe
}

// newProbes returns a handler of the health paths that health serves in whole.
func newProbes(health http.Handler) *probes {
	p := &probes{paths: map[string]*probe{}}
	for _, path := range inflight.HealthPaths {
		p.paths[path] = &probe{health: health, path: path}
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *probes) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	found := p.paths[req.URL.Path]
	query := req.URL.Query()
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		answer(w, req, http.StatusMethodNotAllowed, "only GET and HEAD are allowed")
	case found == nil, query.Has("verbose"), query.Has("exclude"):
		answer(w, req, http.StatusUnauthorized, "the checks are shown to authorized users only; without credentials there are "+strings.Join(inflight.HealthPaths, ", "))
	case found.healthy():
		answer(w, req, http.StatusOK, "ok")
	default:
		answer(w, req, http.StatusInternalServerError, fmt.Sprintf("%s check failed", strings.TrimPrefix(req.URL.Path, "/")))
	}
}

func answer(w http.ResponseWriter, req *http.Request, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	if req.Method != http.MethodHead {
		_, _ = w.Write([]byte(text)) // it is the client's loss
	}
}

// probe is the outcome of the checks at one path.
type probe struct {
	health http.Handler
	path   string

	mu    sync.Mutex
	asked time.Time
	ok    bool
}

func (p *probe) healthy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.IsZero() || time.Since(p.asked) >= probeInterval {
		p.ok = p.ask()
		p.asked = time.Now()
	}
	return p.ok
}

// ask asks as a client would that needs no authorization.
func (p *probe) ask() bool {
	ctx := request.WithRequestInfo(context.Background(), &request.RequestInfo{Path: p.path, Verb: "get"})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.path, nil)
	if err != nil {
		return false
	}
	w := responsewriter.NewInMemoryResponseWriter()
	p.health.ServeHTTP(w, req)
	return w.RespCode() == http.StatusOK
}
