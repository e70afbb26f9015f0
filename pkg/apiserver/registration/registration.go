// SPDX-License-Identifier: Apache-2.0

// Package registration registers the API in the cluster: it reconciles the APIServices
// by which the kube-apiserver proxies requests, and the marker CustomResourceDefinitions
// from which Cluster API reads the kinds' version. It creates again what is deleted, and
// corrects what is changed. It must never touch what belongs to others, but reports the
// conflict in the log and with an Event.
package registration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// FieldManager owns the fields that this package applies.
	FieldManager = "metalstack-apiserver-registration"
	// RegisteredByLabel on an APIService or a CustomResourceDefinition has the
	// namespace of the server that reconciles it. Objects without it belong to others.
	RegisteredByLabel = "metal-stack." + infrastructure.GroupName + "/registered-by"
)

// Reasons of Events.
const (
	// ReasonRegistered: an APIService or a marker was created or corrected.
	ReasonRegistered = "Registered"
	// ReasonUnregistered: an APIService was deleted, since its version is not served any
	// more.
	ReasonUnregistered = "Unregistered"
	// ReasonVersionInUse: an APIService is not deleted though its version is not served any
	// more, since clients rely on it that no other server answers.
	ReasonVersionInUse = "GroupVersionInUse"
	// ReasonVersionTaken: one of the group-versions is also served by others, with a
	// CustomResourceDefinition or an APIService. The kinds of one of the two are
	// unreachable.
	ReasonVersionTaken = "GroupVersionTaken"
	// ReasonMarkerTaken: a CustomResourceDefinition of a marker's name serves
	// versions, so that it cannot mark the kind's version for Cluster API.
	ReasonMarkerTaken = "MarkerTaken"
)

// action is the action of Events.
const action = "Register"

const (
	// callTimeout is how long a request to the cluster may take.
	callTimeout = 10 * time.Second
	// resync is how often everything is reconciled without an event; conflicts are
	// reported again.
	resync = 5 * time.Minute
	// reconcileInterval and burst limit corrections, so that two
	// writers that disagree do not load the cluster.
	reconcileInterval, reconcileBurst = time.Second, 5
)

// retries is the backoff of failed reconciliations.
var retries = wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.1, Steps: 6, Cap: 30 * time.Second}

var (
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// Bundle is the CA bundle that clients of the server must trust.
type Bundle interface {
	dynamiccertificates.Notifier
	// CurrentCABundleContent is PEM-encoded.
	CurrentCABundleContent() []byte
}

// Options configure the registration.
type Options struct {
	// Config is that of clients of the cluster.
	Config *rest.Config
	// Namespace, Service and Port are where the server is reached in the cluster.
	Namespace, Service string
	Port               int32
	Bundle             Bundle
	Events             events.EventRecorder
	// Firewalls registers the version that firewall-controllers read.
	Firewalls bool
}

// Registrar reconciles the registration.
type Registrar struct {
	Options
	client   dynamic.Interface
	metadata metadata.Interface
	serves   map[string]definition
	changed  chan struct{}

	firewallsReader func(context.Context) (string, error)
}

var _ dynamiccertificates.Listener = &Registrar{}

// New returns a registrar, which does nothing until it is run.
func New(o Options) (*Registrar, error) {
	client, err := dynamic.NewForConfig(o.Config)
	if err != nil {
		return nil, err
	}
	metadata, err := metadata.NewForConfig(o.Config)
	if err != nil {
		return nil, err
	}
	r := &Registrar{Options: o, client: client, metadata: metadata, serves: map[string]definition{}, changed: make(chan struct{}, 1)}
	o.Bundle.AddListener(r)
	return r, nil
}

// Enqueue implements dynamiccertificates.Listener: it has the registration reconciled.
func (r *Registrar) Enqueue() {
	select {
	case r.changed <- struct{}{}:
	default: // it is enqueued already
	}
}

// Run reconciles the registration until ctx ends. Only the active server should: two of
// different versions could disagree. firewallsReader returns an object with a
// firewall-controller that reads Firewalls from this server; empty if there is none.
func (r *Registrar) Run(ctx context.Context, firewallsReader func(context.Context) (string, error)) {
	r.firewallsReader = firewallsReader
	logger := klog.FromContext(ctx)
	list, err := r.watch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			logger.Error(err, "Failed to watch APIServices and CustomResourceDefinitions: the API is not registered")
		}
		return
	}
	limiter := rate.NewLimiter(rate.Every(reconcileInterval), reconcileBurst)
	backoff := retries
	r.Enqueue()
	again := time.NewTimer(resync)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-again.C:
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		err := r.reconcile(ctx, list())
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			logger.Error(err, "Failed to reconcile the registration: retrying")
			again.Reset(backoff.Step())
			continue
		}
		backoff = retries
		again.Reset(resync)
	}
}

// watch enqueues a reconciliation when an APIService or a definition of the groups
// changes. It returns a function that lists the definitions of the groups.
func (r *Registrar) watch(ctx context.Context) (list func() []*metav1.PartialObjectMetadata, err error) {
	factory := metadatainformer.NewSharedInformerFactory(r.metadata, 0)
	wake := func(obj any) {
		if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil && groups.Has(groupOf(name)) {
			r.Enqueue()
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: wake, UpdateFunc: func(_, obj any) { wake(obj) }, DeleteFunc: wake}
	for _, resource := range []schema.GroupVersionResource{apiServices, definitions} {
		informer := factory.ForResource(resource).Informer()
		if err := informer.SetTransform(stripMetadata); err != nil {
			return nil, err
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	for resource, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("failed to list %s: %w", resource.Resource, context.Cause(ctx))
		}
	}
	store := factory.ForResource(definitions).Informer().GetStore()
	return func() []*metav1.PartialObjectMetadata {
		var ours []*metav1.PartialObjectMetadata
		for _, obj := range store.List() {
			if m, ok := obj.(*metav1.PartialObjectMetadata); ok && groups.Has(groupOf(m.Name)) {
				ours = append(ours, m)
			}
		}
		return ours
	}, nil
}

// stripMetadata drops metadata that is not used here: a cluster has hundreds of
// definitions.
func stripMetadata(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.ManagedFields, m.Annotations, m.OwnerReferences = nil, nil, nil
	}
	return obj, nil
}

// reconcile creates and corrects all APIServices and markers that do not belong to
// others.
func (r *Registrar) reconcile(ctx context.Context, inGroups []*metav1.PartialObjectMetadata) error {
	others, err := r.servedByOthers(ctx, inGroups)
	if err != nil {
		return err
	}
	var errs []error
	for _, version := range versions {
		errs = append(errs, r.reconcileAPIService(ctx, version, others[version.name()]))
	}
	if r.Firewalls {
		errs = append(errs, r.reconcileAPIService(ctx, firewalls, others[firewalls.name()]))
	} else {
		errs = append(errs, r.removeFirewalls(ctx))
	}
	for _, kind := range kinds {
		errs = append(errs, r.reconcileMarker(ctx, kind))
	}
	return errors.Join(errs...)
}

// get returns an object, or nil if there is none.
func (r *Registrar) get(ctx context.Context, resource schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	obj, err := r.client.Resource(resource).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return obj, err
}

// apply creates or corrects an object; before is the existing one, or nil.
func (r *Registrar) apply(ctx context.Context, resource schema.GroupVersionResource, before, wanted *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	applied, err := r.client.Resource(resource).Apply(ctx, wanted.GetName(), wanted, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	if err != nil {
		return err
	}
	verb := "created"
	if before != nil {
		verb = "corrected"
		if before.GetResourceVersion() == applied.GetResourceVersion() {
			return nil
		}
	}
	klog.FromContext(ctx).Info("Registered", "kind", applied.GetKind(), "name", applied.GetName(), "operation", verb)
	r.Events.Eventf(reference(applied), nil, corev1.EventTypeNormal, ReasonRegistered, action, "%s was %s", applied.GetName(), verb)
	return nil
}

// reportConflict logs that an object belongs to others, and records an Event about it.
func (r *Registrar) reportConflict(ctx context.Context, about *corev1.ObjectReference, reason, message string) {
	klog.FromContext(ctx).Error(nil, message, "reason", reason, "kind", about.Kind, "name", about.Name)
	r.Events.Eventf(about, nil, corev1.EventTypeWarning, reason, action, "%s", oneline.Sanitize(message, oneline.MaxNote))
}

// isMarked returns whether an object has the label of this server.
func (r *Registrar) isMarked(labels map[string]string) bool {
	return labels[RegisteredByLabel] == r.Namespace
}

func reference(obj *unstructured.Unstructured) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: obj.GetAPIVersion(), Kind: obj.GetKind(), Name: obj.GetName(), UID: obj.GetUID()}
}
