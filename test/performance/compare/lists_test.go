// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	acceptTable    = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	acceptMetadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
)

// request is a list.
type request struct {
	version string // the resourceVersion; a consistent list without one
	accept  string
	gzip    bool
	// items is how many objects the namespace of a team has; 0 for a list of all
	// namespaces.
	items, team int
}

// list lists as often as it takes for the CPU to be measurable, and returns the
// time of one list, its CPU, and its bytes if it is compressed.
func list(r request) func(context.Context, *environment, *side) ([]float64, error) {
	return func(ctx context.Context, e *environment, s *side) ([]float64, error) {
		namespace, want := "", *objects
		if r.items > 0 {
			namespace, want = e.teams[r.team].Namespace, r.items
		}
		headers := map[string]string{"Accept": "application/json"}
		if r.accept != "" {
			headers["Accept"] = r.accept
		}
		if r.gzip {
			headers["Accept-Encoding"] = "gzip"
		}
		var query []string
		if r.version != "" {
			query = []string{"resourceVersion", r.version}
		}
		var took, size []float64
		cpu := s.cpuSince()
		var answers []*answer
		for range max(1, min(10, 2000/want)) {
			a, err := s.client.get(ctx, s.path(namespace, "", query...), headers)
			if err != nil {
				return nil, err
			}
			answers = append(answers, a)
			took, size = append(took, a.took.Seconds()), append(size, float64(len(a.body)))
		}
		used, err := cpu()
		if err != nil {
			return nil, err
		}
		for _, a := range answers {
			// The server compresses nothing that is small.
			if r.gzip && bytes.HasPrefix(a.body, gzipMagic) {
				if err := a.inflate(); err != nil {
					return nil, err
				}
			}
			if n, err := a.count(); err != nil || n != want {
				return nil, fmt.Errorf("%d objects of %d: %w", n, want, err)
			}
		}
		values := []float64{median(took), used.Seconds() / float64(len(took))}
		if r.gzip {
			values = append(values, median(size))
		}
		return values, nil
	}
}

var gzipMagic = []byte{0x1f, 0x8b}

var (
	addedMarker = []byte(`{"type":"ADDED"`)
	endMarker   = []byte(`"k8s.io/initial-events-end":"true"`)
)

// watchList watches as client-go's reflector begins, until all objects are there.
func watchList(ctx context.Context, _ *environment, s *side) ([]float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := s.admin()
	defer c.CloseIdleConnections()
	cpu, began := s.cpuSince(), time.Now()
	response, err := c.open(ctx, http.MethodGet, s.path("", "", "watch", "1", "allowWatchBookmarks", "true", "sendInitialEvents", "true",
		"resourceVersionMatch", "NotOlderThan"), nil, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), eventLimit)
	for added := 0; lines.Scan(); {
		line := lines.Bytes()
		if bytes.HasPrefix(line, addedMarker) {
			added++
		}
		if !bytes.Contains(line, endMarker) {
			continue
		}
		took := time.Since(began)
		used, err := cpu()
		if err == nil && added != *objects {
			err = fmt.Errorf("%d initial events of %d", added, *objects)
		}
		return []float64{took.Seconds(), used.Seconds()}, err
	}
	return nil, fmt.Errorf("the watch ended before all initial events were sent: %w", lines.Err())
}
