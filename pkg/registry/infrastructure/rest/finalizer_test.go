// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// releaseAuthorizer allows everything but to delete an allocation, which it
// answers with decision and err. It counts these questions.
type releaseAuthorizer struct {
	decision authorizer.Decision
	err      error
	asked    []authorizer.Attributes
}

func (r *releaseAuthorizer) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetSubresource() != "allocation" || a.GetVerb() != "delete" {
		return authorizer.DecisionAllow, "", nil
	}
	r.asked = append(r.asked, a)
	return r.decision, "", r.err
}

func newEnvironmentWithAuthorizer(t *testing.T, a authorizer.Authorizer) *environment {
	t.Helper()
	backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: memory.New()})
	require.NoError(t, err)
	w := &environment{backend: backend, facts: facts{}}
	w.Resources, err = New(NewRESTOptionsGetter(backend, projection.Source{Facts: w.facts, Bindings: teamABinding{}, Clock: clock.RealClock{}}), teamABinding{}, resolverOf(a, backend), anyCatalogue{}, nil)
	require.NoError(t, err)
	require.NoError(t, backend.Start(t.Context()))
	return w
}

// setAllocation writes the allocation of the machine node-1 and of the cluster
// c-1, as the allocation protocol does.
func setAllocation(t *testing.T, w *environment, a infrastructure.ClusterAllocation) {
	t.Helper()
	_, err := w.Machines().Update(t.Context(), "team-a", "node-1", func(m *infrastructure.MetalStackMachine) error {
		m.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: a.AllocationState, MachineID: idleID}
		return nil
	})
	require.NoError(t, err)
	_, err = w.Clusters().Update(t.Context(), "team-a", "c-1", func(c *infrastructure.MetalStackCluster) error {
		c.Status.Allocation = &a
		return nil
	})
	require.NoError(t, err)
}

func phased(phase infrastructure.AllocationPhase) infrastructure.ClusterAllocation {
	return infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: phase}}
}

func TestFinalizer_StaysOnWhatHasMetalUnlessTheUserMayRelease(t *testing.T) {
	t.Parallel()
	partial, adopted := phased(""), phased("")
	partial.NetworkID = "network-1"
	adopted.NetworkID, adopted.NetworkAdopted = "network-1", true
	for name, c := range map[string]struct {
		allocation     infrastructure.ClusterAllocation
		machine, clust bool // whether the finalizer stays
	}{
		"not begun":               {phased(""), false, false},
		"allocating":              {phased(infrastructure.AllocationAllocating), true, true},
		"allocated":               {phased(infrastructure.AllocationAllocated), true, true},
		"releasing":               {phased(infrastructure.AllocationReleasing), true, true},
		"released":                {phased(infrastructure.AllocationReleased), false, false},
		"refused half way":        {partial, false, true},
		"refused after adoptions": {adopted, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := &releaseAuthorizer{decision: authorizer.DecisionNoOpinion}
			w := newEnvironmentWithAuthorizer(t, asked)
			create(t, w, machine.Resource, newMachine("node-1"))
			create(t, w, cluster.Resource, newCluster("c-1"))
			setAllocation(t, w, c.allocation)
			for resource, stays := range map[string]bool{machine.Resource: c.machine, cluster.Resource: c.clust} {
				asked.asked = nil
				main := w.all[resource].main
				name := map[string]string{machine.Resource: "node-1", cluster.Resource: "c-1"}[resource]
				zero := int64(0)
				_, gone, err := main.Delete(in("team-a"), name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{GracePeriodSeconds: &zero})
				require.NoError(t, err)
				require.False(t, gone, "a forced delete leaves finalizers")
				_, err = update(t, main, name, func(o registry.Object) { o.SetFinalizers(nil) })
				if !stays {
					require.NoError(t, err)
					require.Empty(t, asked.asked)
					continue
				}
				require.True(t, apierrors.IsForbidden(err), "%v", err)
				require.ErrorContains(t, err, `cannot delete resource "`+resource+`/allocation" in namespace "team-a"`)
				require.Len(t, asked.asked, 1)
				assert.Equal(t, []string{"admin", "team-a", name, resource}, []string{
					asked.asked[0].GetUser().GetName(), asked.asked[0].GetNamespace(), asked.asked[0].GetName(), asked.asked[0].GetResource(),
				})
				_, err = update(t, main, name, func(o registry.Object) { o.SetLabels(map[string]string{"a": "b"}) })
				require.NoError(t, err, "every other change is as free as before")

				asked.err = errors.New("the authorizer is away")
				_, err = update(t, main, name, func(o registry.Object) { o.SetFinalizers(nil) })
				require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
				asked.decision, asked.err = authorizer.DecisionAllow, nil
				_, err = update(t, main, name, func(o registry.Object) { o.SetFinalizers(nil) })
				require.NoError(t, err)
				asked.decision = authorizer.DecisionNoOpinion
				_, err = main.Get(in("team-a"), name, &metav1.GetOptions{})
				assert.True(t, apierrors.IsNotFound(err), "%v", err)
			}
		})
	}
}

// An externally managed cluster has no finalizer, so the mark that says so
// must not be a way to lose one.
func TestFinalizer_StaysOnAClusterThatIsHandedToAnotherManager(t *testing.T) {
	t.Parallel()
	w := newEnvironmentWithAuthorizer(t, &releaseAuthorizer{decision: authorizer.DecisionNoOpinion})
	create(t, w, machine.Resource, newMachine("node-1"))
	create(t, w, cluster.Resource, newCluster("c-1"))
	partial := phased("")
	partial.IPAddress = "203.0.113.1"
	setAllocation(t, w, partial)
	out, err := update(t, w.all[cluster.Resource].main, "c-1", func(c *infrastructure.MetalStackCluster) {
		c.Annotations = map[string]string{infrastructure.ManagedByAnnotation: "another"}
		c.Finalizers = nil
	})
	require.NoError(t, err)
	assert.Equal(t, []string{infrastructure.ClusterFinalizer}, out.Finalizers)
}
