// SPDX-License-Identifier: Apache-2.0

// Package managerroles grants the controller manager two fixed ClusterRoles in the
// namespaces that are bound to a project, and in no other: to read bootstrap data, and to
// write what gives clusters access to their metal-api, and firewall-controllers to their
// configuration. It reconciles a RoleBinding to each
// of them in each namespace. It must never grant anything to another account, by another
// role, in the server's own namespace or in kube-system; a ValidatingAdmissionPolicy in
// artifacts/deploy restricts the server's account to the same. The second role must not be
// granted while no policy restricts what is written by it.
package managerroles

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	rbacinformers "k8s.io/client-go/informers/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/metrics"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// ManagedByLabel on a RoleBinding is ManagedBy if this package created it.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "metalstack-apiserver"
)

// A Role is a ClusterRole that the controller manager gets in bound namespaces.
type Role struct {
	// Name is that of the ClusterRole, and of the RoleBindings to it.
	Name string
	// fieldManager owns the fields that are applied.
	fieldManager string
	// eventReason is that of Events on Namespaces without the RoleBinding, and failure
	// is what the controller manager cannot do there.
	eventReason, failure string
	// missing counts these namespaces; nil if they are not counted.
	missing *metrics.Gauge
}

var (
	// BootstrapData allows reading bootstrap data.
	BootstrapData = Role{
		Name: "metalstack-bootstrap-data", fieldManager: "metalstack-apiserver-bootstrap-data",
		eventReason: ReasonUnreadable, failure: "controller manager cannot read bootstrap data in this namespace", missing: unreadable,
	}
	// MetalAPIAccess allows giving clusters access to their metal-api.
	MetalAPIAccess = Role{
		Name: "metalstack-metalapi-access", fieldManager: "metalstack-apiserver-metalapi-access",
		eventReason: ReasonAccessNotGranted, failure: "controller manager cannot give clusters in this namespace access to their metal-api",
	}
)

const (
	// callTimeout is how long a request to the cluster may take.
	callTimeout = 10 * time.Second
	// resync is how often all namespaces are reconciled without an event.
	resync = 5 * time.Minute
	// reconcileInterval and reconcileBurst limit reconciliations. A tenant may delete the RoleBinding of its
	// namespace as often as it likes, and costs one request each time.
	reconcileInterval, reconcileBurst = time.Second, 5
	// maxErrors is how many namespaces one log line names.
	maxErrors = 3
)

// retries is the backoff of failed reconciliations.
var retries = wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.1, Steps: 6, Cap: 30 * time.Second}

// Options are the role, the account, and the namespaces in which it gets the role.
type Options struct {
	Role   Role
	Client kubernetes.Interface
	// Namespace is the server's own, and Account the controller manager's
	// ServiceAccount in it.
	Namespace, Account string
	// Bound returns the namespaces in which the controller manager gets the role, with the
	// uids of their Namespaces.
	Bound  func() map[string]types.UID
	Events events.EventRecorder
	// Grantable returns an error while the role must not be granted, and is then revoked in
	// all namespaces; while that is not known, nothing is changed. Nil: it always may be.
	Grantable func() (known bool, err error)
	// Clock is the real one if nil.
	Clock clock.PassiveClock
}

// Controller reconciles the RoleBindings to one role.
type Controller struct {
	Options
	changed chan struct{}
	// failures are the namespaces without access, with what was reported last.
	failures map[string]failure
	// refusals are the namespaces in which the RoleBinding was forbidden.
	refusals map[string]refusal
	// granting and revoking remember the namespace at which the last round ended.
	granting, revoking rotation
}

// New returns a controller, which does nothing until it is run.
func New(o Options) *Controller {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	registerMetrics()
	return &Controller{Options: o, changed: make(chan struct{}, 1), failures: map[string]failure{}, refusals: map[string]refusal{}}
}

// Enqueue has all namespaces reconciled: which ones are bound has changed.
func (c *Controller) Enqueue() {
	select {
	case c.changed <- struct{}{}:
	default: // they are enqueued already
	}
}

// Run reconciles the RoleBindings until ctx ends. Only the active server should.
func (c *Controller) Run(ctx context.Context) {
	logger := klog.FromContext(ctx)
	defer c.reset()
	list, err := c.watch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			logger.Error(err, "Failed to watch RoleBindings: the controller manager is not granted the role in newly bound namespaces", "role", c.Role.Name)
		}
		return
	}
	limiter := rate.NewLimiter(rate.Every(reconcileInterval), reconcileBurst)
	backoff := retries
	c.Enqueue()
	again := time.NewTimer(resync)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-again.C:
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		err := c.reconcile(ctx, list())
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			logger.Error(err, "Failed to reconcile RoleBindings: retrying", "role", c.Role.Name)
			again.Reset(backoff.Step())
			continue
		}
		backoff = retries
		again.Reset(resync)
	}
}

// watch enqueues a reconciliation when a RoleBinding of this name changes. It returns a
// function that lists them by namespace.
func (c *Controller) watch(ctx context.Context) (list func() map[string]*rbacv1.RoleBinding, err error) {
	informer := rbacinformers.NewFilteredRoleBindingInformer(c.Client, metav1.NamespaceAll, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		// By this selector, RBAC restricts the list to the name.
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, c.Role.Name).String()
	})
	registered, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.Enqueue() }, UpdateFunc: func(_, _ any) { c.Enqueue() }, DeleteFunc: func(any) { c.Enqueue() },
	})
	if err != nil {
		return nil, err
	}
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), registered.HasSynced) {
		return nil, fmt.Errorf("failed to list RoleBindings: %w", context.Cause(ctx))
	}
	return func() map[string]*rbacv1.RoleBinding {
		found := map[string]*rbacv1.RoleBinding{}
		for _, obj := range informer.GetStore().List() {
			if b, ok := obj.(*rbacv1.RoleBinding); ok && b.Name == c.Role.Name {
				found[b.Namespace] = b
			}
		}
		return found
	}, nil
}

// reconcile creates, corrects and deletes RoleBindings according to the bindings of
// namespaces. It returns an error if it is to be retried.
func (c *Controller) reconcile(ctx context.Context, found map[string]*rbacv1.RoleBinding) error {
	var withheld error
	if c.Grantable != nil {
		known, err := c.Grantable()
		if !known {
			return nil
		}
		withheld = err
	}
	bound := c.Bound()
	gone := func(namespace string) bool { _, is := bound[namespace]; return !is }
	maps.DeleteFunc(c.failures, func(namespace string, _ failure) bool { return gone(namespace) })
	maps.DeleteFunc(c.refusals, func(namespace string, _ refusal) bool { return gone(namespace) })
	errs, unreached := c.granting.forEach(slices.Collect(maps.Keys(bound)), func(namespace string) error {
		if withheld != nil {
			c.report(ctx, namespace, bound[namespace], withheld)
			return nil
		}
		err := c.ensure(ctx, namespace, found[namespace])
		c.report(ctx, namespace, bound[namespace], err)
		if c.isFinal(namespace, err) {
			return nil
		}
		return err
	})
	cannot := len(c.failures)
	for _, namespace := range unreached {
		if _, counted := c.failures[namespace]; !counted && (found[namespace] == nil || !c.isUpToDate(found[namespace])) {
			cannot++
		}
	}
	if c.Role.missing != nil {
		c.Role.missing.Set(float64(cannot))
	}
	var unwanted []string
	for namespace, b := range found {
		if (withheld != nil || gone(namespace)) && isManaged(b) {
			unwanted = append(unwanted, namespace)
		}
	}
	failed, _ := c.revoking.forEach(unwanted, func(namespace string) error { return c.revoke(ctx, found[namespace]) })
	if errs = append(errs, failed...); len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d namespaces, among them: %w", len(errs), errors.Join(errs[:min(len(errs), maxErrors)]...))
}

// ensure creates or corrects the RoleBinding of a namespace; is is the existing one, or
// nil.
func (c *Controller) ensure(ctx context.Context, namespace string, is *rbacv1.RoleBinding) error {
	switch {
	case namespace == c.Namespace || namespace == metav1.NamespaceSystem:
		return errReservedNamespace
	case is != nil && c.isUpToDate(is):
		return nil
	case is != nil && is.RoleRef != c.roleRef() && !isManaged(is):
		return fmt.Errorf("RoleBinding %q %w", c.Role.Name, errNameTaken)
	case is != nil && is.RoleRef != c.roleRef():
		// A roleRef cannot be changed.
		if err := c.revoke(ctx, is); err != nil {
			return err
		}
	}
	return c.applyUnlessForbidden(ctx, namespace)
}

// isUpToDate returns whether a RoleBinding needs no correction.
func (c *Controller) isUpToDate(b *rbacv1.RoleBinding) bool {
	return isManaged(b) && b.RoleRef == c.roleRef() && slices.Equal(b.Subjects, []rbacv1.Subject{c.subject()})
}

func (c *Controller) subject() rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: c.Account, Namespace: c.Namespace}
}

func (c *Controller) roleRef() rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: c.Role.Name}
}

// isManaged returns whether this package created a RoleBinding.
func isManaged(b *rbacv1.RoleBinding) bool { return b.Labels[ManagedByLabel] == ManagedBy }

// namespaceReference is the reference of Events about a namespace.
func namespaceReference(namespace string, uid types.UID) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace, UID: uid}
}
