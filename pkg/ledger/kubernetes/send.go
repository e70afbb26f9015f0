package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const (
	// writeTimeout is how long a write may take, if its caller does not wait
	// for a shorter time.
	writeTimeout = 10 * time.Second
	// getTimeout is how long it may take to find out who a refusal is due to.
	getTimeout = 5 * time.Second
	// leastAttempt is the shortest time that is worth an attempt.
	leastAttempt = 250 * time.Millisecond
	// firstPause is the pause after the first attempt; pauses double up to
	// maxPause, or are as long as the API server asks for.
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// The verbs of writes, in metrics and errors.
const (
	verbCreate = "create"
	verbUpdate = "update"
	verbDelete = "delete"
)

// verdict is what an answer of the API server says about a write.
type verdict int

const (
	// done: the write was done.
	done verdict = iota
	// refused: the ConfigMap exists already, does not exist, or is another.
	// That can be due to this very write, if it was sent before.
	refused
	// notBegun: certainly without effect, and the next attempt may succeed.
	notBegun
	// notTaken: certainly without effect, and so would be the next attempt.
	notTaken
	// open: it may have been done, or may still be.
	open
)

// answer is what became of a write after all attempts.
type answer struct {
	verdict verdict
	cm      *corev1.ConfigMap // what the write made; nil for a delete
	err     error             // of the last attempt
	// wasOpen: an attempt before the last may have been done.
	wasOpen bool
}

// send sends a write until its outcome is known, or three quarters of the time
// for it are up: the rest is left to find out what became of it. client-go's
// own retries are off, because they would hide that there was more than one
// request, and so whose success it is that a refusal is due to.
//
// Whatever became of a request, sending it again does no harm: a create meets
// the name, an update and a delete the version that they have changed.
func (l *Ledger) send(ctx context.Context, verb string, request func() *rest.Request) answer {
	deadline, _ := ctx.Deadline()
	until := time.Now().Add(time.Until(deadline) * 3 / 4)
	a := answer{}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		a.cm, a.err = attempt(ctx, until, request)
		a.verdict = judge(verb, a.err)
		if a.verdict != notBegun && a.verdict != open {
			return a
		}
		if seconds, asked := apierrors.SuggestsClientDelay(a.err); asked {
			pause = max(pause, time.Duration(seconds)*time.Second)
		}
		a.wasOpen = a.wasOpen || a.verdict == open
		if time.Until(until) < pause+leastAttempt || !sleep(ctx, pause) {
			return a
		}
		repeats.WithLabelValues(verb, strconv.FormatBool(a.verdict == notBegun)).Inc()
	}
}

// attempt sends one request, with half of the time that is left.
func attempt(ctx context.Context, until time.Time, request func() *rest.Request) (*corev1.ConfigMap, error) {
	limit := max(time.Until(until)/2, leastAttempt)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// The API server gives up a little earlier: then it answers, and does not
	// do late what nobody waits for any more.
	obj, err := request().MaxRetries(0).Param("timeout", (limit * 9 / 10).Truncate(time.Millisecond).String()).Do(ctx).Get()
	if err != nil {
		return nil, err
	}
	cm, _ := obj.(*corev1.ConfigMap) // a delete answers with a Status
	return cm, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// judge tells what an error says about the write. Only errors that are known
// to come before the API server stores anything count as certain.
func judge(verb string, err error) verdict {
	var network *net.OpError
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return done
	case errors.As(err, &network) && network.Op == "dial":
		return notBegun // no connection, no request
	case !errors.As(err, &status):
		return open
	}
	switch code := status.Status().Code; {
	case verb == verbCreate && apierrors.IsConflict(err):
		return notBegun // a quota, which somebody else changed
	case verb == verbCreate && apierrors.IsNotFound(err):
		return notTaken // there is no such namespace
	case apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return refused
	case code == http.StatusTooManyRequests:
		return notBegun
	case code == http.StatusBadRequest, code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusMethodNotAllowed,
		code == http.StatusNotAcceptable, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity, tooLarge(err):
		return notTaken
	}
	return open
}

// tooLarge is how an API server says it for itself, and how for its etcd.
func tooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) || strings.Contains(err.Error(), "etcdserver: request is too large")
}

// failure is the error of a write that was neither done nor refused.
func (a answer) failure() error {
	switch {
	case a.wasOpen || a.verdict == open:
		return a.err
	case tooLarge(a.err):
		return fmt.Errorf("%w: %w", ledger.ErrTooLarge, a.err)
	}
	return fmt.Errorf("%w: %w", ledger.ErrNotDone, a.err)
}

func (l *Ledger) post(cm *corev1.ConfigMap) *rest.Request {
	return l.core.RESTClient().Post().Namespace(l.namespace).Resource("configmaps").
		VersionedParams(&metav1.CreateOptions{FieldManager: fieldManager}, scheme.ParameterCodec).Body(cm)
}

func (l *Ledger) put(cm *corev1.ConfigMap) *rest.Request {
	return l.core.RESTClient().Put().Namespace(l.namespace).Resource("configmaps").Name(cm.Name).
		VersionedParams(&metav1.UpdateOptions{FieldManager: fieldManager}, scheme.ParameterCodec).Body(cm)
}

func (l *Ledger) remove(name string, opts *metav1.DeleteOptions) *rest.Request {
	return l.core.RESTClient().Delete().Namespace(l.namespace).Resource("configmaps").Name(name).Body(runtime.Object(opts))
}
