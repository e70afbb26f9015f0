// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// exclusiveOperations are the operations in progress, one for each object at
// most. They belong to the process, and not to the requests that asked for them.
type exclusiveOperations struct {
	mu sync.Mutex
	// running are the verbs of the operations in progress.
	running map[objectRef]string
	closing bool
	wg      sync.WaitGroup

	// ctx ends when the process begins to shut down: it ends reads and pauses,
	// but no call that changes metal, and no record of its outcome.
	ctx    context.Context
	cancel context.CancelFunc
}

func newExclusiveOperations() *exclusiveOperations {
	ctx, cancel := context.WithCancel(context.Background())
	return &exclusiveOperations{running: map[objectRef]string{}, ctx: ctx, cancel: cancel}
}

// start is refused while another operation on the object is in progress.
func (e *exclusiveOperations) start(ref objectRef, verb string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return interruption(verb)
	}
	if other, running := e.running[ref]; running {
		return errInProgress(verb, other)
	}
	e.running[ref] = verb
	e.wg.Add(1)
	return nil
}

func (e *exclusiveOperations) finish(ref objectRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, ref)
	e.wg.Done()
}

// join is start for what is not an operation on an object; false: the process shuts down.
func (e *exclusiveOperations) join() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.wg.Add(1)
	return true
}

func (e *exclusiveOperations) leave() { e.wg.Done() }

func (e *exclusiveOperations) isRunning(ref objectRef) bool { return e.runningVerb(ref) != "" }

// runningVerb is the verb of the operation on an object, if there is one.
func (e *exclusiveOperations) runningVerb(ref objectRef) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running[ref]
}

// runExclusive does work as the only operation on an object. It waits for it, or
// for ctx: then the work continues, and the error says so.
func runExclusive[T any](ctx context.Context, p *Protocol, ref objectRef, verb string, work func(ctx context.Context) (T, error)) (T, error) {
	var none T
	if err := p.operations.start(ref, verb); err != nil {
		return none, ref.apiError(err)
	}
	logger := klog.FromContext(ctx).WithValues("verb", verb, "resource", ref.resource.Resource, "namespace", ref.namespace, "name", ref.name)
	type outcome struct {
		result T
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		o := outcome{err: errInterrupted}
		defer func() { ended <- o }()
		defer p.operations.finish(ref)
		observed := observeOperation(ref, verb, p.clock)
		o.result, o.err = work(klog.NewContext(p.operations.ctx, logger))
		if isUnavailable(o.err) && p.operations.ctx.Err() != nil {
			// It was refused because the process shuts down, whatever it says.
			o.err = interruption(verb)
		}
		o.err = p.orNotWritable(verb, o.err)
		observed(o.err)
		if o.err != nil {
			logger.V(1).Info("Operation failed", "err", o.err)
		}
	}()
	select {
	case o := <-ended:
		return o.result, ref.apiError(o.err)
	case <-ctx.Done():
		return none, ref.statusError(&refusal{
			code: http.StatusGatewayTimeout, retryAfter: time.Second,
			message: "the " + verb + " is still in progress, and continues: retry for its outcome" + repetition(verb),
		})
	}
}

// repetition says which retries of an operation that is recorded are the same request.
func repetition(verb string) string {
	const sinceThen = ", as long as no other power action or reinstallation of the object was recorded since"
	switch verb {
	case VerbPower:
		return ". A retry is the same request only with the same requestID, or, without one, within ten seconds of the end of this one" + sinceThen +
			", and of a discovered machine only for ten minutes, by the same process"
	case VerbReinstall:
		return ". A retry is the same request only within ten seconds of the end of this one" + sinceThen
	}
	return ""
}

// Shutdown starts no operation any more, and waits until those in progress have
// ended, or ctx has. One that only waits ends at once and is resumed from its
// record; a call that changes metal is waited for, and its outcome recorded.
func (p *Protocol) Shutdown(ctx context.Context) error {
	p.operations.mu.Lock()
	p.operations.closing = true
	p.operations.mu.Unlock()
	p.operations.cancel()
	ended := make(chan struct{})
	go func() {
		p.operations.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
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
