// SPDX-License-Identifier: Apache-2.0

package managerroles

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// maxTransient is how many namespaces may have transient errors before a round
	// ends: a webhook can fail in one namespace, or in all of them.
	maxTransient = 3
	// forbiddenRetryPeriod is for how long a RoleBinding that is forbidden is retried
	// with backoff: the kube-apiserver may not have seen the namespace's label yet.
	// From then on it is retried with every resync.
	forbiddenRetryPeriod = 2 * time.Minute
)

// rotation iterates over namespaces. Each round begins after the namespace at which the
// last one ended, so that none delays the others.
type rotation struct{ last string }

// forEach calls do for namespaces until a call gets no answer, or several have transient
// errors: the next call would have to wait for as long. It returns the errors, and the
// namespaces that were not reached.
func (r *rotation) forEach(namespaces []string, do func(namespace string) error) (errs []error, unreached []string) {
	slices.Sort(namespaces)
	begin := max(0, slices.IndexFunc(namespaces, func(n string) bool { return n > r.last }))
	namespaces = slices.Concat(namespaces[begin:], namespaces[:begin])
	failed := 0
	for i, namespace := range namespaces {
		err := do(namespace)
		if err != nil {
			errs = append(errs, err)
		}
		if !isTransient(err) {
			continue
		}
		if failed++; failed == maxTransient || statusCode(err) == 0 || statusCode(err) == http.StatusTooManyRequests {
			r.last = namespace
			return errs, namespaces[i+1:]
		}
	}
	r.last = ""
	return errs, nil
}

// refusal is the error of a namespace in which the RoleBinding is forbidden.
type refusal struct {
	err          error
	since, tried time.Time
}

// applyUnlessForbidden applies the RoleBinding of a namespace, unless it has been
// forbidden for forbiddenRetryPeriod.
func (c *Controller) applyUnlessForbidden(ctx context.Context, namespace string) error {
	now := c.Clock.Now()
	r, refused := c.refusals[namespace]
	if refused && now.Sub(r.since) >= forbiddenRetryPeriod && now.Sub(r.tried) < resync/2 {
		return r.err
	}
	err := c.apply(ctx, namespace)
	switch {
	case apierrors.IsForbidden(err):
		if !refused {
			r.since = now
		}
		r.err, r.tried = err, now
		c.refusals[namespace] = r
	case !isTransient(err):
		delete(c.refusals, namespace)
	}
	return err
}

// isFinal returns whether an error, which has been reported, is not retried with
// backoff.
func (c *Controller) isFinal(namespace string, err error) bool {
	if errors.Is(err, errReservedNamespace) || errors.Is(err, errNameTaken) {
		return true // A watch event follows when that changes.
	}
	return apierrors.IsForbidden(err) && c.Clock.Since(c.refusals[namespace].since) >= forbiddenRetryPeriod
}
