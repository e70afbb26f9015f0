// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

var claimKinds = []kind{networks, ips}

// A claim needs no owner: it is allocated at once, and stays.
func TestClaim_IsAllocatedWithoutOwner(t *testing.T) {
	t.Parallel()
	for _, k := range claimKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, k, false, object(k, "claim"))
			h.reconcile("claim")
			assert.Equal(t, []string{"allocate claim"}, h.calls)
			assert.Equal(t, v1alpha4.AllocationAllocated, allocationOf(h.get(k, "claim")).Phase)
			assert.NotContains(t, h.get(k, "claim").GetAnnotations(), infrastructure.BlockMoveAnnotation)
		})
	}
}

// A discovered network or address has no finalizer, and is left alone.
func TestClaim_DiscoveredIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, k := range claimKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, k, false, object(k, "discovered", func(obj client.Object) { obj.SetFinalizers(nil) }))
			h.reconcile("discovered")
			assert.Empty(t, h.calls)
		})
	}
}

// The deletion of what is in use waits, and says for what.
func TestClaim_DeletionWaitsWhileInUse(t *testing.T) {
	t.Parallel()
	for _, k := range claimKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, k, false, object(k, "claim", with(v1alpha4.AllocationAllocated)))
			require.NoError(t, h.api.Delete(t.Context(), h.get(k, "claim")))
			inUse := apierrors.NewConflict(infrastructure.Resource(k.resource), "claim", nil)
			inUse.ErrStatus.Message = k.resource + ` "claim": is in use by MetalStackCluster a`
			inUse.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: infrastructure.ReasonInUse}}
			h.refuse = inUse
			assert.Positive(t, h.reconcile("claim").RequeueAfter)
			deleting := meta.FindStatusCondition(h.get(k, "claim").GetConditions(), infrastructure.ConditionDeleting)
			require.NotNil(t, deleting)
			assert.Equal(t, infrastructure.ReasonInUse, deleting.Reason)
			assert.Equal(t, "is in use by MetalStackCluster a", deleting.Message)
			h.refuse = nil
			h.clock.Step(maxBackoff)
			h.reconcile("claim")
			assert.False(t, h.exists(k, "claim"))
			assert.Equal(t, []string{"release claim", "release claim"}, h.calls)
		})
	}
}

// The release of what was adopted is asked for, too: it may be refused.
func TestClaim_AdoptedIsReleasedFirst(t *testing.T) {
	t.Parallel()
	for _, k := range claimKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, k, false, object(k, "claim", with(v1alpha4.AllocationAllocated), func(obj client.Object) {
				switch o := obj.(type) {
				case *v1alpha4.MetalStackIP:
					o.Status.Allocation.Adopted = true
				case *v1alpha4.MetalStackNetwork:
					o.Status.Allocation.Adopted = true
				}
			}))
			require.NoError(t, h.api.Delete(t.Context(), h.get(k, "claim")))
			h.reconcile("claim")
			assert.Equal(t, []string{"release claim"}, h.calls)
			assert.False(t, h.exists(k, "claim"))
		})
	}
}

func TestClaim_PausedIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHarness(t, networks, false, object(networks, "claim", func(obj client.Object) {
		obj.SetAnnotations(map[string]string{infrastructure.PausedAnnotation: ""})
	}))
	h.reconcile("claim")
	assert.Empty(t, h.calls)
}
