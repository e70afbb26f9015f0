// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestMetalAPIAccess_IsRevokedBeforeTheRelease(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(corev1.Resource("secrets"), "x", errors.New("no RoleBinding"))
	for name, c := range map[string]struct {
		failure error
		// retries are how often the release waits for another attempt.
		retries int
	}{
		"":                                 {},
		"although nothing can be deleted":  {errAway, maxRevocations - 1},
		"although it may not be":           {forbidden, 0},
		"although the kinds are not there": {&meta.NoKindMatchError{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			h.provide("the-token")
			require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
			h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
			h.live.refuse = func(verb string, _ client.Object) error {
				if verb == "delete" || meta.IsNoMatchError(c.failure) {
					return c.failure
				}
				return nil
			}
			h.onRelease = func(client.Object) {
				for what, of := range accessObjects() {
					assert.Equal(t, c.failure != nil, h.find(of()), what)
				}
			}
			after := h.step(0)
			for range c.retries {
				require.Positive(t, after)
				require.NotContains(t, h.calls, "release "+accessCluster)
				require.Contains(t, h.condition().Message, "cannot be revoked yet")
				after = h.step(after)
			}
			assert.Contains(t, h.calls, "release "+accessCluster)
			assert.False(t, h.exists(clusters, accessCluster))
		})
	}
}

// One request that fails keeps none of the other objects.
func TestMetalAPIAccess_RevocationTriesEachObject(t *testing.T) {
	t.Parallel()
	for kept := range accessObjects() {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			h.provide("the-token")
			require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
			h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
			name, like := accessObjects()[kept]()
			h.live.refuse = func(verb string, obj client.Object) error {
				if verb == "delete" && obj.GetName() == name && fmt.Sprintf("%T", obj) == fmt.Sprintf("%T", like) {
					return apierrors.NewInternalError(errAway)
				}
				return nil
			}
			after := h.step(0)
			for what, of := range accessObjects() {
				assert.Equal(t, what == kept, h.find(of()), what)
			}
			h.live.refuse = nil
			h.step(after)
			assert.False(t, h.find(name, like))
			assert.False(t, h.exists(clusters, accessCluster))
		})
	}
}

func TestMetalAPIAccess_IsRevokedAfterAReleaseByHand(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Status.Allocation.Phase = v1alpha4.AllocationReleased })
	h.step(0)
	for what, of := range accessObjects() {
		assert.False(t, h.find(of()), what)
	}
	assert.False(t, h.exists(clusters, accessCluster))
}

// A deletion can be held for days, during which a stolen token must be revocable.
func TestMetalAPIAccess_IsRevokedDuringADeletion(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	machine := object(machines, "m", of("rose"))
	require.NoError(t, h.api.Create(t.Context(), machine))
	require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
	h.step(0)
	require.Empty(t, h.live.requests, "it is kept until its machines are gone")
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
	h.step(0)
	for what, of := range accessObjects() {
		assert.False(t, h.find(of()), what)
	}
	assert.Empty(t, h.condition())
	assert.NotContains(t, h.calls, "release "+accessCluster)
}
