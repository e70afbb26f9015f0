package allocation

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// exclusiveOperations are the operations that are under way in this process. They belong
// to it, and not to the requests that asked for them.
type exclusiveOperations struct {
	mu      sync.Mutex
	running map[objectRef]string
	closing bool
	wg      sync.WaitGroup

	// ctx ends when the process begins to shut down: it ends looks and
	// pauses, but no call that changes metal, and no record of its outcome.
	ctx    context.Context
	cancel context.CancelFunc
}

func newExclusiveOperations() *exclusiveOperations {
	life, end := context.WithCancel(context.Background())
	return &exclusiveOperations{running: map[objectRef]string{}, ctx: life, cancel: end}
}

// start opens the flight of a subject, of which there is one at a time.
func (f *exclusiveOperations) start(s objectRef, verb string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return errInterrupted
	}
	if other, open := f.running[s]; open {
		return errInProgress(other)
	}
	f.running[s] = verb
	f.wg.Add(1)
	return nil
}

func (f *exclusiveOperations) finish(s objectRef) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, s)
	f.wg.Done()
}

func (f *exclusiveOperations) isRunning(s objectRef) bool { return f.runningVerb(s) != "" }

// runningVerb is the verb of a subject's flight, if there is one.
func (f *exclusiveOperations) runningVerb(s objectRef) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running[s]
}

// runExclusive does work on s in a flight and waits for it, or for ctx: then the work
// goes on, and the answer says so.
func runExclusive[T any](ctx context.Context, p *Protocol, s objectRef, verb string, work func(ctx context.Context) (T, error)) (T, error) {
	var none T
	if err := p.operations.start(s, verb); err != nil {
		return none, s.apiError(err)
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
		defer p.operations.finish(s)
		observed := observeOperation(s, verb, p.clock)
		o.result, o.err = work(klog.NewContext(p.operations.ctx, logger))
		if r, ok := errors.AsType[*refusal](o.err); ok && r.code == http.StatusServiceUnavailable && p.operations.ctx.Err() != nil {
			// Nothing could be asked any more, whatever it says.
			o.err = errInterrupted
		}
		observed(o.err)
		if o.err != nil {
			logger.V(1).Info("Operation failed", "err", o.err)
		}
	}()
	select {
	case o := <-ended:
		return o.result, s.apiError(o.err)
	case <-ctx.Done():
		return none, s.statusError(&refusal{
			code: http.StatusGatewayTimeout, retryAfter: time.Second,
			message: "the " + verb + " is still in progress, and continues: retry for its outcome",
		})
	}
}

// Shutdown begins no work any more, and waits until what is under way has
// ended, or ctx has. What only waits ends at once and is resumed from its
// record; a call that changes metal is waited for, and its outcome recorded.
func (p *Protocol) Shutdown(ctx context.Context) error {
	p.operations.mu.Lock()
	p.operations.closing = true
	p.operations.mu.Unlock()
	p.operations.cancel()
	landed := make(chan struct{})
	go func() {
		p.operations.wg.Wait()
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
