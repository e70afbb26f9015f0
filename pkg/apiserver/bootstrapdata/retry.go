package bootstrapdata

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// maxTransient is how many namespaces may fail in one round before it ends: a
	// webhook can fail in one namespace, or in all of them.
	maxTransient = 3
	// forbiddenRetryPeriod is for how long a RoleBinding that is forbidden is tried again
	// soon: the kube-apiserver may not have seen the namespace's label yet.
	// From then on it is tried again when all namespaces are looked at.
	forbiddenRetryPeriod = 2 * time.Minute
)

// rotation goes over namespaces. Each one begins after the namespace at which the
// last one ended, so that none keeps the others waiting.
type rotation struct{ last string }

// forEach calls do for namespaces until there is no answer, or several errors say
// nothing about the namespace: the next one would have to wait for as long. It
// returns the errors, and the namespaces that were not reached.
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

// refusal is what is known of a namespace in which a RoleBinding is forbidden.
type refusal struct {
	err          error
	since, tried time.Time
}

// applyUnlessForbidden applies the RoleBinding of a namespace, unless it has been
// forbidden for some time.
func (k *Controller) applyUnlessForbidden(ctx context.Context, namespace string) error {
	now := k.Clock.Now()
	r, refused := k.refusals[namespace]
	if refused && now.Sub(r.since) >= forbiddenRetryPeriod && now.Sub(r.tried) < resync/2 {
		return r.err
	}
	err := k.apply(ctx, namespace)
	switch {
	case apierrors.IsForbidden(err):
		if !refused {
			r.since = now
		}
		r.err, r.tried = err, now
		k.refusals[namespace] = r
	case !isTransient(err):
		delete(k.refusals, namespace)
	}
	return err
}

// isFinal tells whether there is no reason to try again soon after an error. It
// has been reported.
func (k *Controller) isFinal(namespace string, err error) bool {
	if errors.Is(err, errReservedNamespace) || errors.Is(err, errNameTaken) {
		return true // An event tells when that changes.
	}
	return apierrors.IsForbidden(err) && k.Clock.Since(k.refusals[namespace].since) >= forbiddenRetryPeriod
}
