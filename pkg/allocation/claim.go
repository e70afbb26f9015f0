// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// The kinds of objects that claim one network or address for themselves.
const (
	networkKind = "MetalStackNetwork"
	ipKind      = "MetalStackIP"
)

// claimKind is MetalStackNetwork or MetalStackIP, with its records.
type claimKind[R record] struct {
	recordStore[R]
	resource schema.GroupResource
	// open begins an operation on a claim as it was read.
	open func(ref objectRef, r R) (claimOperation[R], error)
}

// claimOperation is one operation on a claim.
type claimOperation[R record] interface {
	common() *operation[R]
	// ensure allocates what the spec asks for, or adopts what it names, and records it.
	ensure(ctx context.Context) (R, error)
	// check makes the checks of ensure that come before a call.
	check(ctx context.Context) error
	// findUnrecorded finds and records what an attempt that was not finished may have
	// allocated.
	findUnrecorded(ctx context.Context) error
	// checkUnused refuses to release what is in use.
	checkUnused(ctx context.Context) error
	// excludeUsers returns once no request that began before the release was recorded can
	// begin to use what the claim holds.
	excludeUsers(ctx context.Context) error
	// free frees what is recorded and not adopted, and says how that ended.
	free(ctx context.Context, inFlightUntil time.Time) (reason, message string, err error)
	// recordDuplicate finds what carries the identity, and was never recorded, and records it
	// in place of what is freed by now.
	recordDuplicate(ctx context.Context) (found bool, err error)
}

// allocate takes a claim to its network or address.
func (k *claimKind[R]) allocate(ctx context.Context, p *Protocol, ref objectRef, uid types.UID) (none R, _ error) {
	r, err := k.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return none, err
	}
	a := *r.state()
	if err := checkUID(r.objectMeta(), uid); err != nil {
		return none, err
	}
	if a.Phase == infrastructure.AllocationAllocated {
		return r, nil
	}
	if err := checkAllocatable(r.objectMeta(), a.Phase); err != nil {
		return none, err
	}
	if err := p.checkBackoff(r); err != nil {
		return none, err
	}
	c, err := k.open(ref, r)
	if err != nil {
		return none, err
	}
	o := c.common()
	if o.dryRun = IsDryRun(ctx); o.dryRun {
		return r, dryRunAllocateClaim(ctx, c)
	}
	allocated, err := c.ensure(ctx)
	if err != nil {
		return none, o.recordRefusal(ctx, err)
	}
	return allocated, nil
}

// release frees what a claim holds, unless it was adopted or is in use.
func (k *claimKind[R]) release(ctx context.Context, p *Protocol, ref objectRef, uid types.UID) (none R, _ error) {
	r, err := k.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return none, err
	}
	a := *r.state()
	if err := checkUID(r.objectMeta(), uid); err != nil {
		return none, err
	}
	releasing := a.Phase == infrastructure.AllocationReleasing
	switch {
	case a.Phase == infrastructure.AllocationReleased:
		return r, nil
	case releasing:
		err = p.checkBackoff(r)
	default:
		err = p.checkMarkedBeforeTakeover(r.objectMeta())
	}
	if err != nil {
		return none, err
	}
	c, err := k.open(ref, r)
	if err != nil {
		return none, err
	}
	o := c.common()
	o.observed, o.dryRun = observedStateOf(&a), IsDryRun(ctx)
	if o.dryRun {
		return r, dryRunReleaseClaim(ctx, c)
	}
	o.freeInFlightUntil = p.freeInFlightUntil(&a)
	if !releasing {
		// It is checked before, so that a release that comes too early changes nothing, and
		// after, so that nothing begins to use it unnoticed.
		if err := c.checkUnused(ctx); err != nil {
			return none, asRefusal(err)
		}
		// No call that frees is in flight yet; but an attempt's may be.
		var start *metav1.Time
		if !o.inFlightUntil.IsZero() {
			start = p.recordTime()
		}
		if err := o.beginRelease(ctx, start); err != nil {
			return none, err
		}
		p.crashPoint(o.traits.step + "/releasing")
	}
	reason, message, err := freeClaim(ctx, c, a.Attempt > 0)
	if err != nil {
		return none, o.recordReleaseRefusal(ctx, asRefusal(err))
	}
	return o.recordReleased(ctx, reason, message)
}

// freeClaim frees all that was allocated for a claim whose release is recorded.
func freeClaim[R record](ctx context.Context, c claimOperation[R], attempted bool) (reason, message string, err error) {
	if attempted {
		if err := c.findUnrecorded(ctx); err != nil {
			return "", "", err
		}
	}
	if reason, message, err = freeRecorded(ctx, c); err != nil || !attempted {
		return reason, message, err
	}
	// What is about to be freed is always recorded: by that others see it.
	for {
		if found, err := c.recordDuplicate(ctx); err != nil || !found {
			return reason, message, err
		}
		if _, _, err := freeRecorded(ctx, c); err != nil {
			return "", "", err
		}
	}
}

// freeRecorded frees what is recorded, once nothing can use it.
func freeRecorded[R record](ctx context.Context, c claimOperation[R]) (reason, message string, err error) {
	if err := c.excludeUsers(ctx); err != nil {
		return "", "", err
	}
	if err := c.checkUnused(ctx); err != nil {
		return "", "", err
	}
	return c.free(ctx, c.common().freeInFlightUntil)
}

// dryRunAllocateClaim checks what an allocation would.
func dryRunAllocateClaim[R record](ctx context.Context, c claimOperation[R]) error {
	if err := c.common().dryRunAttempt(ctx); err != nil {
		return err
	}
	err := c.check(ctx)
	var r *refusal
	if err == nil || errors.As(err, &r) {
		return err
	}
	return refusalOf(err)
}

// dryRunReleaseClaim checks what a release would.
func dryRunReleaseClaim[R record](ctx context.Context, c claimOperation[R]) error {
	if err := c.checkUnused(ctx); err != nil {
		return asRefusal(err)
	}
	o := c.common()
	return ignoreDryRun(o.beginRelease(ctx, o.p.recordTime()))
}

// beginAdoption records the attempt to adopt the metal that the spec names, under the
// identity uid, and calls check. If check refuses, the object keeps the identity that it
// had. check is called after the attempt was recorded, so that of two objects that name the
// same at least one sees the other. After the other records, check reads the metal again:
// another object may have released it before those were read.
func (o *operation[R]) beginAdoption(ctx context.Context, what string, uid types.UID, check func(ctx context.Context) error) error {
	before := o.identity.uid
	o.identity.uid = uid
	if err := o.beginAttempt(ctx); err != nil {
		return err
	}
	o.p.crashPoint(what + "/begun")
	err := check(ctx)
	if err != nil {
		o.identity.uid = before
	}
	return err
}

// isOwn reports whether an identity is that of an object of our kind and name.
func (o *operation[R]) isOwn(tag func(key string) string) bool {
	return tag(metal.TagUID) != "" && tag(metal.TagKind) == o.identity.kind &&
		tag(metal.TagNamespace) == LabelValue(o.ref.namespace) && tag(metal.TagName) == LabelValue(o.ref.name)
}

// isOwnHere is isOwn for an identity that was allocated in this management cluster: one manifest
// may be applied in several.
func (o *operation[R]) isOwnHere(tag func(key string) string) bool {
	return o.isOwn(tag) && tag(metal.TagManagementCluster) == LabelValue(o.p.opts.ManagementCluster)
}

// recordWhileReleasing changes the record of a claim whose release is in progress, unless another
// operation has continued it.
func (o *operation[R]) recordWhileReleasing(ctx context.Context, change func(R)) error {
	_, err := o.update(ctx, func(r R) error {
		if a := r.state(); a.Phase != infrastructure.AllocationReleasing || !o.observed.matches(a) {
			return errChanged()
		}
		change(r)
		return nil
	})
	return err
}

// checkRecordable refuses to record the outcome of an attempt that is not the last one any more.
// same: the record has that outcome already, which is left as it is.
func (o *operation[R]) checkRecordable(a *infrastructure.AllocationState, recorded bool) (same bool, err error) {
	switch {
	case a.Phase == infrastructure.AllocationAllocated && recorded:
		return true, nil
	case a.Phase != infrastructure.AllocationAllocating || a.Attempt != o.attempt:
		return false, errChanged()
	}
	return false, nil
}

// refusesInUse makes a refusal one that says that a network or an address is in use.
func refusesInUse(err error) error {
	var r *refusal
	if errors.As(err, &r) && r.code == http.StatusConflict {
		r.reason = infrastructure.ReasonInUse
	}
	return err
}

// errChanged refuses to go on with a record that another operation changed.
func errChanged() error {
	return refuse(http.StatusConflict, "the record was changed by another operation: retry")
}

// noRecords are the records of a resource that has none.
type noRecords[T runtime.Object] struct{ resource schema.GroupResource }

func (n noRecords[T]) Get(_ context.Context, _, name string) (none T, _ error) {
	return none, apierrors.NewNotFound(n.resource, name)
}

func (n noRecords[T]) Update(_ context.Context, _, name string, _ func(T) error) (none T, _ error) {
	return none, apierrors.NewNotFound(n.resource, name)
}

func (noRecords[T]) List(context.Context) ([]T, error) { return nil, nil }

func (noRecords[T]) Changes() func() ([]types.NamespacedName, bool) {
	return func() ([]types.NamespacedName, bool) { return nil, true }
}
