package allocation

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// flights are the operations that are under way in this process. They belong
// to it, and not to the requests that asked for them.
type flights struct {
	mu      sync.Mutex
	open    map[subject]string
	closing bool
	wg      sync.WaitGroup

	// life ends when the process begins to shut down: it ends looks and
	// pauses, but no call that changes metal, and no record of its outcome.
	life context.Context
	end  context.CancelFunc
}

func newFlights() *flights {
	life, end := context.WithCancel(context.Background())
	return &flights{open: map[subject]string{}, life: life, end: end}
}

// begin opens the flight of a subject, of which there is one at a time.
func (f *flights) begin(s subject, verb string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return errInterrupted
	}
	if other, open := f.open[s]; open {
		return underWay(other)
	}
	f.open[s] = verb
	f.wg.Add(1)
	return nil
}

func (f *flights) done(s subject) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, s)
	f.wg.Done()
}

func (f *flights) under(s subject) bool { return f.of(s) != "" }

// of is the verb of a subject's flight, if there is one.
func (f *flights) of(s subject) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open[s]
}

// fly does work on s in a flight and waits for it, or for ctx: then the work
// goes on, and the answer says so.
func fly[T any](ctx context.Context, p *Protocol, s subject, verb string, work func(ctx context.Context) (T, error)) (T, error) {
	var none T
	if err := p.flights.begin(s, verb); err != nil {
		return none, s.answer(err)
	}
	logger := klog.FromContext(ctx).WithValues("verb", verb, "resource", s.resource.Resource, "namespace", s.namespace, "name", s.name)
	type outcome struct {
		result T
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		o := outcome{err: errInterrupted}
		defer func() { ended <- o }()
		defer p.flights.done(s)
		observed := observeFlight(s, verb, p.clock)
		o.result, o.err = work(klog.NewContext(p.flights.life, logger))
		if r, ok := errors.AsType[*refusal](o.err); ok && r.code == http.StatusServiceUnavailable && p.flights.life.Err() != nil {
			// Nothing could be asked any more, whatever it says.
			o.err = errInterrupted
		}
		observed(o.err)
		if o.err != nil {
			logger.V(1).Info("Did not succeed", "reason", o.err.Error())
		}
	}()
	select {
	case o := <-ended:
		return o.result, s.answer(o.err)
	case <-ctx.Done():
		return none, s.status(&refusal{
			code: http.StatusGatewayTimeout, after: time.Second,
			words: "the " + verb + " is still under way and goes on; ask again for its outcome",
		})
	}
}

// Shutdown begins no work any more, and waits until what is under way has
// ended, or ctx has. What only waits ends at once and is resumed from its
// record; a call that changes metal is waited for, and its outcome recorded.
func (p *Protocol) Shutdown(ctx context.Context) error {
	p.flights.mu.Lock()
	p.flights.closing = true
	p.flights.mu.Unlock()
	p.flights.end()
	landed := make(chan struct{})
	go func() {
		p.flights.wg.Wait()
		close(landed)
	}()
	select {
	case <-landed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause waits for d; it fails if the process shuts down meanwhile.
func (p *Protocol) pause(ctx context.Context, d time.Duration) error {
	timer := p.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}
