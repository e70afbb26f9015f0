// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// accessCheckInterval is for how long the objects of an access are relied on without
	// being read. They are not watched: that would take the right to
	// list all Secrets of a namespace, and memory for them.
	accessCheckInterval = time.Minute
	// minAccessRetry is how soon they are read again while something is missing. It is
	// doubled with each time, up to accessCheckInterval.
	minAccessRetry = time.Second
	// accessTimeout is how long reading and writing them may take, since allocation and
	// release come after it.
	accessTimeout = 10 * time.Second
	// maxRevocations is how often deleting them is tried before a release goes on without.
	maxRevocations = 4
)

// ManagementCluster is how workload clusters reach the API server of the management cluster.
type ManagementCluster struct {
	// URL is that of the API server, without a slash at its end; empty if it is not known.
	URL string
	// Authority returns the certificates, PEM, that verify the API server; none are those of
	// the system. Nil is none.
	Authority func() (string, error)
}

// authority returns the certificates that verify the API server.
func (m ManagementCluster) authority() (string, error) {
	if m.Authority == nil {
		return "", nil
	}
	text, err := m.Authority()
	if err != nil {
		return "", &authorityError{fmt.Errorf("failed to read the authority of the management cluster: %w", err)}
	}
	return text, nil
}

// An access is what a cluster is given of the management cluster, for one purpose: a
// ServiceAccount with a Role, its token, and further Secrets.
type access struct {
	// conditionType is that of the condition of the cluster that tells of it.
	conditionType string
	// description is what it is called in messages.
	description string
	// suffix is what the name of the ServiceAccount, after that of the MetalStackCluster, ends
	// with. Role and RoleBinding have the same name, and the token another suffix.
	suffix string
	// secrets are the names of the further Secrets, given the name of the Cluster.
	secrets func(cluster *v1alpha4.MetalStackCluster, clusterName string) []string
	// revokedEvent and action are the reason and the action of the Event that tells of its end.
	revokedEvent, action string
	checks               *accessChecks

	// ready is what there is to say about it, and revoked is true if there is none any more.
	ready   *metav1.Condition
	revoked bool
	// recheckAfter is when its objects are read again.
	recheckAfter time.Duration
}

func (a *access) account(cluster *v1alpha4.MetalStackCluster) string { return cluster.Name + a.suffix }
func (a *access) token(cluster *v1alpha4.MetalStackCluster) string {
	return a.account(cluster) + "-token"
}

// accessPlan is what an access depends on, but for its token and the authority of the
// management cluster, and what ensures it. The inputs are comparable.
type accessPlan struct {
	inputs any
	ensure func(context.Context) metav1.Condition
}

// reconcileAccess keeps an access. What it waits for and what fails is in the cluster's
// condition, and holds nothing else up. The plan is asked for only if the access is wanted.
func (r *reconciliation) reconcileAccess(ctx context.Context, a *access, cluster *v1alpha4.MetalStackCluster, wanted, allocated bool, plan func() accessPlan) {
	was := meta.FindStatusCondition(cluster.Status.Conditions, a.conditionType)
	// The condition is written before the first object is created, so that they are found again.
	mayExist := mayHaveAccess(was)
	switch {
	case !wanted && was == nil:
	case !wanted || !allocated:
		if mayExist && !r.revokeAccess(ctx, a, cluster) {
			break
		}
		a.revoked = true
		if wanted {
			a.set(infrastructure.ReasonNotAllocated, "Nothing is allocated for the cluster yet")
		}
	case r.ofAnotherCluster(cluster) != "":
		if mayExist && !r.revokeAccess(ctx, a, cluster) {
			break
		}
		a.set(infrastructure.ReasonClusterMismatch, "%s: no access is given, since it would be delivered into the workload cluster of that one", r.ofAnotherCluster(cluster))
		a.recheckAfter = accessCheckInterval
	case r.options.ManagementCluster.URL == "":
		a.set(infrastructure.ReasonManagementURLMissing,
			"No new access is given, and existing access stays: it is not known under which URL workload clusters reach the management cluster. An administrator has to set --management-cluster-url of the controller manager")
	case !mayExist:
		a.set(infrastructure.ReasonWaitingForToken, "ServiceAccount %s is being created", a.account(cluster))
		a.recheckAfter = minAccessRetry
	default:
		p := plan()
		r.checkAccess(ctx, a, p.inputs, p.ensure)
	}
}

// mayHaveAccess returns whether objects may exist, by the condition of the last reconcile.
func mayHaveAccess(was *metav1.Condition) bool {
	return was != nil && was.Reason != infrastructure.ReasonNotAllocated && was.Reason != infrastructure.ReasonClusterMismatch
}

// ofAnotherCluster returns why the Cluster whose workload cluster gets an access is not the
// cluster's own; empty if it is.
func (r *reconciliation) ofAnotherCluster(cluster *v1alpha4.MetalStackCluster) string {
	named := clusterNameOf(cluster)
	if name := r.clusterName(); name != "" && name != named {
		return fmt.Sprintf("The label %s names Cluster %s, and the owner is Cluster %s", infrastructure.ClusterNameLabel, named, name)
	}
	if !r.ownsLabelledMembers(cluster.Name) {
		ref := r.cluster.Spec.InfrastructureRef
		return fmt.Sprintf("spec.infrastructureRef of Cluster %s names %s %s", named, ref.Kind, ref.Name)
	}
	return ""
}

// revokeAccessOfDeleted revokes an access of a cluster that is being deleted, when nothing of it
// is left that uses it. Its Secrets may have a second owner, so the
// garbage collector alone would keep them, and a later cluster of the same name could not make
// its own. A failure that may pass holds the release up for a few attempts, and no other one.
func (r *reconciliation) revokeAccessOfDeleted(ctx context.Context, a *access, cluster *v1alpha4.MetalStackCluster) wait {
	was := meta.FindStatusCondition(cluster.Status.Conditions, a.conditionType)
	if was == nil || a.revoked {
		return wait{}
	}
	if !mayHaveAccess(was) || r.revokeAccess(ctx, a, cluster) {
		a.revoked = true
		return wait{}
	}
	last := a.checks.get(r.request)
	if last.condition.Reason == infrastructure.ReasonMetalAPIAccessRequestFailed && last.failures < maxRevocations {
		return wait{message: last.condition.Message, requeueAfter: a.recheckAfter}
	}
	return wait{}
}

// revocation is what the objects depend on while they are deleted.
type revocation struct{ cluster string }

// revokeAccess deletes the objects, unless that failed a moment ago, and returns whether
// none is left.
func (r *reconciliation) revokeAccess(ctx context.Context, a *access, cluster *v1alpha4.MetalStackCluster) (revoked bool) {
	r.checkAccess(ctx, a, revocation{string(cluster.UID)}, func(ctx context.Context) metav1.Condition {
		errs := r.deleteAccess(ctx, a, cluster)
		if len(errs) == 0 {
			revoked = true
			return metav1.Condition{}
		}
		err := utilerrors.NewAggregate(errs)
		ctrl.LoggerFrom(ctx).Info("Failed to revoke the "+a.description, "err", err)
		reason := infrastructure.ReasonMetalAPIAccessCreationRefused
		if slices.ContainsFunc(errs, func(err error) bool {
			return a.failure(err).Reason == infrastructure.ReasonMetalAPIAccessRequestFailed
		}) {
			reason = infrastructure.ReasonMetalAPIAccessRequestFailed
		}
		return *a.condition(metav1.ConditionFalse, reason, fmt.Sprintf("The %s cannot be revoked yet: %v", a.description, err))
	})
	if revoked {
		a.ready, a.recheckAfter = nil, 0
		a.checks.reset(r.request)
		if was := meta.FindStatusCondition(cluster.Status.Conditions, a.conditionType); was == nil || was.Reason != infrastructure.ReasonRevoking {
			r.recordNormal(a.revokedEvent, a.action, "Revoked the "+a.description)
		}
	}
	return revoked
}

// checkAccess does what the objects need, unless that was done a moment ago.
func (r *reconciliation) checkAccess(ctx context.Context, a *access, inputs any, do func(context.Context) metav1.Condition) {
	now := r.clock.Now()
	last := a.checks.get(r.request)
	if last.inputs == inputs && now.Before(last.due) {
		a.ready, a.recheckAfter = &last.condition, last.due.Sub(now)
		return
	}
	limited, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	condition := do(limited)
	if ctx.Err() != nil {
		return
	}
	check := accessCheck{inputs: inputs, condition: condition, interval: accessCheckInterval}
	if condition.Status != metav1.ConditionTrue {
		check.interval, check.failures = minAccessRetry, 1
		if last.inputs == inputs && last.condition.Status != metav1.ConditionTrue {
			check.interval = min(max(2*last.interval, minAccessRetry), accessCheckInterval)
			check.failures += last.failures
		}
	}
	check.due = now.Add(check.interval)
	a.checks.set(r.request, check)
	a.ready, a.recheckAfter = &condition, check.interval
}

func (a *access) set(reason, format string, args ...any) {
	a.ready = a.condition(metav1.ConditionFalse, reason, fmt.Sprintf(format, args...))
}

func (a *access) condition(status metav1.ConditionStatus, reason, message string) *metav1.Condition {
	return &metav1.Condition{Type: a.conditionType, Status: status, Reason: reason, Message: message}
}

// failure is the condition that tells of an error.
func (a *access) failure(err error) metav1.Condition {
	reason := infrastructure.ReasonMetalAPIAccessRequestFailed
	if _, ok := errors.AsType[*nameTakenError](err); ok {
		reason = infrastructure.ReasonMetalAPIAccessNameTaken
	} else if _, ok := errors.AsType[*authorityError](err); ok {
		reason = infrastructure.ReasonAuthorityUnreadable
	} else if isRefusal(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || meta.IsNoMatchError(err) {
		reason = infrastructure.ReasonMetalAPIAccessCreationRefused
	}
	message := err.Error()
	return *a.condition(metav1.ConditionFalse, reason, strings.ToUpper(message[:1])+message[1:])
}

// isAccount returns whether an owner reference names the ServiceAccount, of whatever uid.
func (a *access) isAccount(cluster *v1alpha4.MetalStackCluster, owner *metav1.OwnerReference) bool {
	return owner.APIVersion == "v1" && owner.Kind == rbacv1.ServiceAccountKind && owner.Name == a.account(cluster)
}

// An accessCheck is what was found when the objects were read last.
type accessCheck struct {
	inputs    any
	condition metav1.Condition
	// interval is until due, when they are read again.
	interval time.Duration
	due      time.Time
	// failures are how many checks in a row found something missing.
	failures int
}

// accessChecks keep the last check of each cluster, in memory only: after a restart the
// objects are read again.
type accessChecks struct {
	mu   sync.Mutex
	last map[ctrl.Request]accessCheck
}

func newAccessChecks() *accessChecks { return &accessChecks{last: map[ctrl.Request]accessCheck{}} }

func (c *accessChecks) get(request ctrl.Request) accessCheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[request]
}

func (c *accessChecks) set(request ctrl.Request, check accessCheck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[request] = check
}

func (c *accessChecks) reset(request ctrl.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, request)
}
