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
	"math"
	"net/http"
	"strconv"
	"sync"
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
	// quietLimit is for how long there are no more events before it is concluded that
	// what is missing was missed.
	quietLimit = 15 * time.Second
	// retryAfter is when a write is sent again that was refused.
	retryAfter = time.Second
	// eventLimit is how large an event may be.
	eventLimit = 1 << 20
)

// sentAnnotation holds the number of the write, after that of the measure.
const sentAnnotation = "compare/sent"

var (
	errorMarker    = []byte(`{"type":"ERROR"`)
	revisionMarker = []byte(`"resourceVersion":"`)
	expiredMarker  = []byte(`"code":410`)
	errEvent       = errors.New("unexpected event")
	errExpired     = errors.New("revision too old")
	fanOuts        atomic.Int64
)

// fanOut writes so many times a second while all watchers watch all objects. The
// pace does not depend on the answers.
func fanOut(rate int) measure {
	subject := fmt.Sprintf("%d watchers of all, %d writes a second", *watchers, rate)
	return measure{
		name: fmt.Sprintf("fan-out-%d", rate),
		rows: fanOutRows(subject),
		run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
			f, err := s.fan(ctx, e.layout, load{rate: rate, writes: int(writing.Seconds() * float64(rate)), watchers: *watchers})
			if err != nil {
				return nil, err
			}
			return f.values(), nil
		},
	}
}

func fanOutRows(subject string) []*row {
	return []*row{
		{subject: subject, part: "sent to event, p50", goal: 1},
		{subject: subject, part: "sent to event, p99", goal: 1},
		{subject: subject, part: fmt.Sprintf("delivered within %s", inTime), unit: fraction},
		{subject: subject, part: "CPU of a delivery", goal: 0.8},
		{subject: subject, part: "answer of a write, p50"},
		{subject: subject, part: "watches that ended and were resumed", unit: number},
	}
}

// load is what a fan-out consists of.
type load struct {
	rate, writes, watchers int
	// slow is how many watchers more read at a crawl.
	slow int
	// expire lets watches begin anew that were told that their revision is too old. The
	// events in between are then not delivered.
	expire bool
}

// fanned is what came of it.
type fanned struct {
	delays, answers                      []float64
	sent, timely                         int // of what the watchers that read should get
	resumed, expired, refused, slowEnded int64
	cpu                                  time.Duration
}

func (f *fanned) values() []float64 {
	return []float64{
		quantile(f.delays, 0.5), quantile(f.delays, 0.99), float64(f.timely) / float64(f.sent),
		f.cpu.Seconds() / float64(len(f.delays)), quantile(f.answers, 0.5), float64(f.resumed),
	}
}

// fan writes while all watchers watch all objects, and waits for all events.
func (s *side) fan(ctx context.Context, layout *layout, l load) (*fanned, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the watches
	from, err := s.revision(ctx)
	if err != nil {
		return nil, err
	}
	began, run := time.Now(), fanOuts.Add(1)
	var ended sync.WaitGroup
	watching, failed := make([]*deliveries, l.watchers+l.slow), make(chan error, l.watchers+l.slow)
	for i := range watching {
		d := &deliveries{after: make([]time.Duration, l.writes), marker: fmt.Appendf(nil, `%q:"%d-`, sentAnnotation, run), last: from, expire: l.expire}
		watching[i] = d
		open := s.admin
		if i >= l.watchers {
			d.bytesASecond, open = crawl, s.crawler
		}
		c := open()
		response, err := d.open(ctx, c, s)
		if err != nil {
			return nil, err
		}
		ended.Go(func() {
			defer c.CloseIdleConnections()
			if err := d.watch(ctx, c, s, response, began); ctx.Err() == nil {
				failed <- err
			}
		})
	}
	readers, crawlers := watching[:l.watchers], watching[l.watchers:]
	cpu, f := s.cpuSince(), &fanned{sent: l.writes * l.watchers}
	sent, answers, refused, err := s.write(ctx, layout, run, l.rate, l.writes, began)
	if err != nil {
		return nil, err
	}
	f.answers, f.refused = answers, refused
	if err := await(readers, l.writes, failed); err != nil {
		return nil, err
	}
	f.cpu, err = cpu()
	cancel()
	ended.Wait()
	if err != nil {
		return nil, err
	}
	for _, d := range readers {
		f.resumed += d.resumed.Load()
		f.expired += d.expired.Load()
		for i, after := range d.after {
			if after == 0 {
				continue
			}
			delay := after - sent[i]
			f.delays = append(f.delays, delay.Seconds())
			if delay <= inTime {
				f.timely++
			}
		}
	}
	for _, d := range crawlers {
		f.slowEnded += d.resumed.Load()
	}
	return f, nil
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
// write was sent, how long the answers took, and how often one was refused, as a
// server does that has too much to do, and sent again.
func (s *side) write(ctx context.Context, l *layout, run int64, rate, writes int, began time.Time) (sent []time.Duration, answers []float64, refused int64, err error) {
	sent, answers = make([]time.Duration, writes), make([]float64, writes)
	clients := make([]*client, writerClients)
	for i := range clients {
		clients[i] = s.admin()
		defer clients[i].CloseIdleConnections()
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var group errgroup.Group
	var again atomic.Int64
	for i := range writes {
		m := l.at(i)
		sent[i] = time.Since(began)
		group.Go(func() error {
			body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d-%d"}}}`, sentAnnotation, run, i)
			for {
				_, err := clients[i%len(clients)].send(ctx, http.MethodPatch, s.path(m.namespace, m.name), mergePatch, body)
				if status := (*statusError)(nil); errors.As(err, &status) && status.retriable() {
					again.Add(1)
					time.Sleep(retryAfter)
					continue
				}
				if err == nil {
					answers[i] = (time.Since(began) - sent[i]).Seconds()
				}
				return err
			}
		})
		<-tick.C
	}
	err = group.Wait()
	return sent, answers, again.Load(), err
}

var mergePatch = map[string]string{"Content-Type": "application/merge-patch+json"}

// deliveries is when a watcher saw the event of each write.
type deliveries struct {
	after                  []time.Duration
	seen, resumed, expired atomic.Int64
	marker                 []byte // what the number of a write follows
	last                   string // revision that was seen last
	bytesASecond           int    // that are read; 0 for as many as there are
	expire                 bool
}

func (d *deliveries) open(ctx context.Context, c *client, s *side) (*http.Response, error) {
	return c.open(ctx, http.MethodGet, s.path("", "", "watch", "1", "allowWatchBookmarks", "true", "resourceVersion", d.last), nil, nil)
}

// watch follows a watch. When that ends, as slow watches do, it is resumed.
func (d *deliveries) watch(ctx context.Context, c *client, s *side, response *http.Response, began time.Time) error {
	for {
		var body io.Reader = response.Body
		if d.bytesASecond > 0 {
			body = &slowReader{ctx: ctx, Reader: body, bytesASecond: d.bytesASecond}
		}
		err := d.follow(bufio.NewReaderSize(body, 64<<10), began)
		response.Body.Close()
		if ctx.Err() != nil || errors.Is(err, errEvent) && !d.expiredBy(err) {
			return err
		}
		d.resumed.Add(1)
		if !d.expiredBy(err) {
			response, err = d.open(ctx, c, s)
		}
		if d.expiredBy(err) {
			d.expired.Add(1)
			if d.last, err = s.revision(ctx); err == nil {
				response, err = d.open(ctx, c, s)
			}
		}
		if err != nil {
			return fmt.Errorf("a watch could not be resumed: %w", err)
		}
	}
}

// expiredBy is whether an error says that the revision is too old, and the watch may
// begin anew.
func (d *deliveries) expiredBy(err error) bool {
	status := (*statusError)(nil)
	return d.expire && (errors.Is(err, errExpired) || errors.As(err, &status) && status.code == http.StatusGone)
}

// follow reads events, until the watch ends. It looks for the number of the write
// only, so that the watchers leave the processors to the servers.
func (d *deliveries) follow(body *bufio.Reader, began time.Time) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 16<<10), eventLimit)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(line, errorMarker) {
			if bytes.Contains(line, expiredMarker) {
				return fmt.Errorf("%w: %w: %.300s", errEvent, errExpired, line)
			}
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

// await waits until every watcher has seen every write, except what one missed that had
// to begin anew: it waits for that until nothing more comes.
func await(watching []*deliveries, writes int, failed <-chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(deliveryLimit)
	defer limit.Stop()
	least, since := math.MaxInt, time.Now()
	for {
		missing, expired := 0, int64(0)
		for _, d := range watching {
			missing += writes - int(d.seen.Load())
			expired += d.expired.Load()
		}
		if missing < least {
			least, since = missing, time.Now()
		}
		if missing == 0 || expired > 0 && time.Since(since) > quietLimit {
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
