// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// inTime is how soon after its write was sent an event is delivered in time.
	inTime = 5 * time.Second
	// deliveryLimit is how long after the last write the last event may come.
	deliveryLimit = 3 * time.Minute
	// writerClients is how many connections writes are spread over.
	writerClients = 5
	// eventLimit is how large an event may be.
	eventLimit = 1 << 20
)

// sentAnnotation holds the number of the write, after that of the measure.
const sentAnnotation = "compare/sent"

var (
	errorMarker    = []byte(`{"type":"ERROR"`)
	revisionMarker = []byte(`"resourceVersion":"`)
	errEvent       = errors.New("unexpected event")
	fanOuts        atomic.Int64
)

// fanOut writes so many times a second while all watchers watch all objects. The
// pace does not depend on the answers.
func fanOut(rate int) measure {
	subject := fmt.Sprintf("%d watchers of all, %d writes a second", *watchers, rate)
	return measure{
		name: fmt.Sprintf("fan-out-%d", rate),
		rows: []*row{
			{subject: subject, part: "sent to event, p50", goal: 1},
			{subject: subject, part: "sent to event, p99", goal: 1},
			{subject: subject, part: fmt.Sprintf("delivered within %s", inTime), unit: fraction},
			{subject: subject, part: "CPU of a delivery", goal: 0.8},
			{subject: subject, part: "answer of a write, p50"},
			{subject: subject, part: "watches that ended and were resumed", unit: number},
		},
		run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel() // the watches
			from, err := s.revision(ctx)
			if err != nil {
				return nil, err
			}
			began, run := time.Now(), fanOuts.Add(1)
			writes := int(writing.Seconds() * float64(rate))
			watching, failed := make([]*deliveries, *watchers), make(chan error, *watchers)
			for i := range watching {
				d := &deliveries{after: make([]time.Duration, writes), marker: fmt.Appendf(nil, `%q:"%d-`, sentAnnotation, run), last: from}
				watching[i] = d
				c := s.admin()
				response, err := d.open(ctx, c, s)
				if err != nil {
					return nil, err
				}
				go func() {
					defer c.CloseIdleConnections()
					if err := d.watch(ctx, c, s, response, began); ctx.Err() == nil {
						failed <- err
					}
				}()
			}
			cpu := s.cpuSince()
			sent, answers, err := s.write(ctx, e.layout, run, rate, writes, began)
			if err != nil {
				return nil, err
			}
			if err := await(watching, writes, failed); err != nil {
				return nil, err
			}
			used, err := cpu()
			cancel()
			if err != nil {
				return nil, err
			}
			var delays []float64
			timely, resumed := 0, 0
			for _, d := range watching {
				resumed += int(d.resumed.Load())
				for i, after := range d.after {
					delay := after - sent[i]
					delays = append(delays, delay.Seconds())
					if delay <= inTime {
						timely++
					}
				}
			}
			return []float64{
				quantile(delays, 0.5), quantile(delays, 0.99), float64(timely) / float64(len(delays)),
				used.Seconds() / float64(len(delays)), quantile(answers, 0.5), float64(resumed),
			}, nil
		},
	}
}

// revision is a revision to watch all objects from.
func (s *side) revision(ctx context.Context) (string, error) {
	// With a client whose warnings are in no figure.
	c := s.admin()
	defer c.CloseIdleConnections()
	a, err := c.get(ctx, s.path("", "", "limit", "1"), nil)
	if err != nil {
		return "", err
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	err = json.Unmarshal(a.body, &list)
	return list.Metadata.ResourceVersion, err
}

// write annotates objects with the number of the write. It returns when each
// write was sent, and how long the answers took.
func (s *side) write(ctx context.Context, l *layout, run int64, rate, writes int, began time.Time) (sent []time.Duration, answers []float64, err error) {
	sent, answers = make([]time.Duration, writes), make([]float64, writes)
	clients := make([]*client, writerClients)
	for i := range clients {
		clients[i] = s.admin()
		defer clients[i].CloseIdleConnections()
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var group errgroup.Group
	for i := range writes {
		m := l.at(i)
		sent[i] = time.Since(began)
		group.Go(func() error {
			body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d-%d"}}}`, sentAnnotation, run, i)
			a, err := clients[i%len(clients)].send(ctx, http.MethodPatch, s.path(m.namespace, m.name), mergePatch, body)
			if err == nil {
				answers[i] = a.took.Seconds()
			}
			return err
		})
		<-tick.C
	}
	return sent, answers, group.Wait()
}

var mergePatch = map[string]string{"Content-Type": "application/merge-patch+json"}

// deliveries is when a watcher saw the event of each write.
type deliveries struct {
	after         []time.Duration
	seen, resumed atomic.Int64
	marker        []byte // what the number of a write follows
	last          string // revision that was seen last
}

func (d *deliveries) open(ctx context.Context, c *client, s *side) (*http.Response, error) {
	return c.open(ctx, http.MethodGet, s.path("", "", "watch", "1", "allowWatchBookmarks", "true", "resourceVersion", d.last), nil, nil)
}

// watch follows a watch. When that ends, as slow watches do, it is resumed.
func (d *deliveries) watch(ctx context.Context, c *client, s *side, response *http.Response, began time.Time) error {
	for {
		err := d.follow(bufio.NewReaderSize(response.Body, 64<<10), began)
		response.Body.Close()
		if ctx.Err() != nil || errors.Is(err, errEvent) {
			return err
		}
		d.resumed.Add(1)
		if response, err = d.open(ctx, c, s); err != nil {
			return fmt.Errorf("a watch could not be resumed: %w", err)
		}
	}
}

// follow reads events, until the watch ends. It looks for the number of the write
// only, so that the watchers leave the processors to the servers.
func (d *deliveries) follow(body *bufio.Reader, began time.Time) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 16<<10), eventLimit)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(line, errorMarker) {
			return fmt.Errorf("%w: %.300s", errEvent, line)
		}
		if _, rest, found := bytes.Cut(line, revisionMarker); found {
			revision, _, _ := bytes.Cut(rest, []byte(`"`))
			d.last = string(revision)
		}
		_, rest, found := bytes.Cut(line, d.marker)
		if !found {
			continue
		}
		digits, _, _ := bytes.Cut(rest, []byte(`"`))
		i, err := strconv.Atoi(string(digits))
		if err != nil || i >= len(d.after) {
			return fmt.Errorf("%w: not a write's number: %.300s", errEvent, line)
		}
		if d.after[i] == 0 {
			d.after[i] = time.Since(began)
			d.seen.Add(1)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

// await waits until every watcher has seen every write.
func await(watching []*deliveries, writes int, failed <-chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(deliveryLimit)
	defer limit.Stop()
	for {
		missing := 0
		for _, d := range watching {
			missing += writes - int(d.seen.Load())
		}
		if missing == 0 {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-limit.C:
			return fmt.Errorf("%d of %d events were not delivered", missing, writes*len(watching))
		case <-tick.C:
		}
	}
}
