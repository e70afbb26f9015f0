// SPDX-License-Identifier: Apache-2.0

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
	// minAttemptTimeout is the shortest time that is worth an attempt.
	minAttemptTimeout = 250 * time.Millisecond
	// minBackoff is the pause after the first attempt; pauses double up to
	// maxPause, or are as long as the API server asks for.
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// The verbs of writes, in metrics and errors.
const (
	verbCreate = "create"
	verbUpdate = "update"
	verbDelete = "delete"
)

// outcome is what an answer of the API server says about a write.
type outcome int

const (
	// done: the write was done.
	done outcome = iota
	// refused: the ConfigMap exists already, does not exist, or is another.
	// That can be due to this very write, if it was sent before.
	refused
	// retriable: certainly without effect, and the next attempt may succeed.
	retriable
	// rejected: certainly without effect, and so would be the next attempt.
	rejected
	// uncertain: it may have been done, or may still be.
	uncertain
)

// result is what became of a write after all attempts.
type result struct {
	outcome outcome
	cm      *corev1.ConfigMap // what the write made; nil for a delete
	err     error             // of the last attempt
	// wasUncertain: an attempt before the last may have been done.
	wasUncertain bool
}

// send sends a write until its outcome is known, or three quarters of the time
// for it are up: the rest is left to find out what became of it. client-go's
// own retries are off, because they would hide that there was more than one
// request, and so whose success it is that a refusal is due to.
//
// Whatever became of a request, sending it again does no harm: a create meets
// the name, an update and a delete the version that they have changed.
func (l *Ledger) send(ctx context.Context, verb string, request func() *rest.Request) result {
	deadline, _ := ctx.Deadline()
	until := time.Now().Add(time.Until(deadline) * 3 / 4)
	a := result{}
	for pause := minBackoff; ; pause = min(2*pause, maxBackoff) {
		a.cm, a.err = attempt(ctx, until, request)
		a.outcome = classify(verb, a.err)
		if a.outcome != retriable && a.outcome != uncertain {
			return a
		}
		if seconds, asked := apierrors.SuggestsClientDelay(a.err); asked {
			pause = max(pause, time.Duration(seconds)*time.Second)
		}
		a.wasUncertain = a.wasUncertain || a.outcome == uncertain
		if time.Until(until) < pause+minAttemptTimeout || !sleep(ctx, pause) {
			return a
		}
		repeats.WithLabelValues(verb, strconv.FormatBool(a.outcome == retriable)).Inc()
	}
}

// attempt sends one request, with half of the time that is left.
func attempt(ctx context.Context, until time.Time, request func() *rest.Request) (*corev1.ConfigMap, error) {
	limit := max(time.Until(until)/2, minAttemptTimeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// The API server gives up a little earlier: then it answers, and does not
	// do late what no client waits for any more.
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

// classify returns what an error says about the write. Only errors that are known
// to come before the API server stores anything count as certain.
func classify(verb string, err error) outcome {
	var network *net.OpError
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return done
	case errors.As(err, &network) && network.Op == "dial":
		return retriable // no connection, no request
	case !errors.As(err, &status):
		return uncertain
	}
	switch code := status.Status().Code; {
	case verb == verbCreate && apierrors.IsConflict(err):
		return retriable // a quota, which was changed concurrently
	case verb == verbCreate && apierrors.IsNotFound(err):
		return rejected // there is no such namespace
	case apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return refused
	case code == http.StatusTooManyRequests:
		return retriable
	case code == http.StatusBadRequest, code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusMethodNotAllowed,
		code == http.StatusNotAcceptable, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity, tooLarge(err):
		return rejected
	}
	return uncertain
}

// tooLarge is how an API server says it for itself, and how for its etcd.
func tooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) || strings.Contains(err.Error(), "etcdserver: request is too large")
}

// failure is the error of a write that was neither done nor refused.
func (r result) failure() error {
	switch {
	case r.wasUncertain || r.outcome == uncertain:
		return r.err
	case tooLarge(r.err):
		return fmt.Errorf("%w: %w", ledger.ErrTooLarge, r.err)
	}
	return fmt.Errorf("%w: %w", ledger.ErrNotWritten, r.err)
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
