// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
)

// reconciledRecords are the records of one resource as the Recoverer reconciles them. A record
// that is not unfinished needs nothing until it changes, as far as the record and its metal go.
type reconciledRecords[R record] struct {
	p        *Protocol
	records  recordStore[R]
	resource schema.GroupResource
	// reconcile reconciles a record, and reports whether it is unfinished.
	reconcile func(ctx context.Context, r R) (unfinished bool, err error)
	// changes returns the records that changed since it was called last.
	changes func() (changed []types.NamespacedName, ok bool)
	// unfinished are the records that every pass reconciles: those with an operation to recover
	// or one that runs, those that wait, and those that could not be reconciled.
	unfinished sets.Set[types.NamespacedName]
	// waiting sums up those that wait.
	waiting waitingRecords
	// complete: unfinished is of all records, as of the last call of changes.
	complete bool
}

func newReconciledRecords[R record](p *Protocol, records recordStore[R], resource schema.GroupResource, reconcile func(context.Context, R) (bool, error)) *reconciledRecords[R] {
	return &reconciledRecords[R]{p: p, records: records, resource: resource, reconcile: reconcile, changes: records.changes()}
}

// reconcileAll reconciles the records, and returns them.
func (k *reconciledRecords[R]) reconcileAll(ctx context.Context) ([]R, error) {
	// What changes from here on, the next pass reconciles again.
	k.changes()
	all, err := k.records.list(ctx)
	if err != nil {
		k.complete = false
		klog.FromContext(ctx).Error(err, "Failed to list records", "resource", k.resource.Resource)
		return nil, err
	}
	k.pass(ctx, all)
	k.complete = true
	return all, nil
}

// reconcileChanged reconciles the records that changed and those that are unfinished, or
// all if it is not known which these are.
func (k *reconciledRecords[R]) reconcileChanged(ctx context.Context) {
	changed, ok := k.changes()
	if !ok || !k.complete {
		_, _ = k.reconcileAll(ctx)
		return
	}
	var due []R
	var unread []types.NamespacedName
	for name := range k.unfinished.Union(sets.New(changed...)) {
		r, err := k.records.get(ctx, name.Namespace, name.Name)
		switch {
		case err == nil:
			due = append(due, r)
		case !apierrors.IsNotFound(err):
			klog.FromContext(ctx).Info("Failed to read a record", "resource", k.resource.Resource, "namespace", name.Namespace, "name", name.Name, "err", err)
			unread = append(unread, name)
		}
	}
	k.pass(ctx, due)
	k.unfinished.Insert(unread...)
}

// pass reconciles records. All others are finished, and wait for nothing.
func (k *reconciledRecords[R]) pass(ctx context.Context, records []R) {
	k.unfinished = sets.Set[types.NamespacedName]{}
	k.waiting = waitingRecords{}
	for _, r := range records {
		m := r.objectMeta()
		waits := k.waiting.add(k.p, r)
		unfinished, err := k.reconcile(ctx, r)
		if err != nil {
			klog.FromContext(ctx).Info("Failed to reconcile a record", "resource", k.resource.Resource, "namespace", m.Namespace, "name", m.Name, "err", err)
		}
		if waits || unfinished || err != nil {
			k.unfinished.Insert(types.NamespacedName{Namespace: m.Namespace, Name: m.Name})
		}
	}
	k.waiting.setMetrics(k.resource.Resource)
}
