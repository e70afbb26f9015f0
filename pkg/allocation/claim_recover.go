// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func newReconciledClaims[R record](r *Recoverer, kind *claimKind[R]) *reconciledRecords[R] {
	return newReconciledRecords(r.p, kind, kind.resource, func(ctx context.Context, claim R) (bool, error) {
		return reconcileClaim(ctx, r, kind, claim), nil
	})
}

// reconcileClaim reconciles a record, and reports whether it is unfinished. A claim needs
// nothing that only a request brings, so its allocation is continued.
func reconcileClaim[R record](ctx context.Context, r *Recoverer, kind *claimKind[R], claim R) (unfinished bool) {
	m, a := claim.objectMeta(), claim.state()
	ref := objectRef{kind.resource, m.Namespace, m.Name}
	if r.p.operations.isRunning(ref) {
		return true
	}
	switch a.Phase {
	case infrastructure.AllocationAllocating:
		r.startInBackground(ctx, a.NotBefore, "open/"+string(m.UID), func(ctx context.Context) error {
			_, err := run(ctx, r.p, ref, verbAllocate, func(ctx context.Context) (R, error) { return kind.allocate(ctx, r.p, ref, m.UID) })
			return err
		})
	case infrastructure.AllocationReleasing:
		r.startInBackground(ctx, a.NotBefore, "release/"+string(m.UID), func(ctx context.Context) error {
			_, err := run(ctx, r.p, ref, verbRelease, func(ctx context.Context) (R, error) { return kind.release(ctx, r.p, ref, m.UID) })
			return err
		})
	default:
		return false
	}
	return true
}
