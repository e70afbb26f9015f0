// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// moveBlocker is the value of the annotation that makes `clusterctl move`
// wait, if it is ours.
const moveBlocker = "metalstack-controller-manager"

// blockMove makes `clusterctl move` wait while metal is asked for: what has not
// been recorded yet would be left behind.
func (r *reconciliation) blockMove(ctx context.Context) error {
	if hasKey(r.obj.GetAnnotations(), infrastructure.BlockMoveAnnotation) {
		return nil
	}
	return r.patchObject(ctx, func(obj metalObject) {
		annotations.AddAnnotations(obj, map[string]string{infrastructure.BlockMoveAnnotation: moveBlocker})
	})
}

// unblockMove lets `clusterctl move` go on. It removes the one annotation: the difference to
// an object without annotations would remove all, also one that was added just now, such as
// that which pauses the object.
func (r *reconciliation) unblockMove(ctx context.Context) error {
	if r.obj.GetAnnotations()[infrastructure.BlockMoveAnnotation] != moveBlocker {
		return nil
	}
	changed := r.obj.DeepCopyObject().(metalObject)
	without := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, infrastructure.BlockMoveAnnotation)
	if err := r.cached.Patch(ctx, changed, client.RawPatch(types.MergePatchType, without)); err != nil {
		return err
	}
	return r.setObject(changed)
}

// reconcileMoveBlock lets `clusterctl move` go on when the outcome of an allocation is
// recorded, and records an Event of it. It is the first phase, since a move
// pauses everything and then waits for this.
func reconcileMoveBlock(ctx context.Context, r *reconciliation) (wait, error) {
	phase := allocationOf(r.obj).Phase
	if phase == "" || phase == v1alpha4.AllocationAllocating || r.obj.GetAnnotations()[infrastructure.BlockMoveAnnotation] != moveBlocker {
		return wait{}, nil
	}
	if err := r.unblockMove(ctx); err != nil {
		return wait{}, err
	}
	if phase == v1alpha4.AllocationAllocated {
		r.recordNormal(EventAllocated, actionAllocate, "Allocated "+describeMetal(r.obj))
		if c := conditions.Get(r.obj, infrastructure.ConditionMatchesSpec); c != nil && c.Status == metav1.ConditionFalse {
			r.recordWarning(c.Reason, actionAllocate, c.Message)
		}
	}
	return wait{}, nil
}
