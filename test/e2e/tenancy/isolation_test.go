// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// errSuccess says that a try was not refused.
var errSuccess = errors.New("it was done")

// attempt is one way to reach a target. It returns why not, or errSuccess.
type attempt struct {
	name string
	// reason is that of the refusal.
	reason metav1.StatusReason
	try    func(ctx context.Context, c client, v *target) error
}

// done turns what a call returned into what an attempt returns.
func done(_ any, err error) error {
	if err == nil {
		return errSuccess
	}
	return err
}

// empty makes a refusal of an answer that shows nothing.
func empty(found []string, err error) error {
	switch {
	case err != nil:
		return err
	case len(found) > 0:
		return fmt.Errorf("%w: %q", errSuccess, found)
	}
	return apierrors.NewNotFound(api.Resource("metalstackmachines"), "any")
}

func withMachine(change func(m *api.MetalStackMachine, v *target), opts ...string) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		m := objects.Machine("thief")
		change(m, v)
		return done(c.MetalStackMachines(own).Create(ctx, m, metav1.CreateOptions{DryRun: opts}))
	}
}

func withFirewall(change func(f *api.MetalStackFirewall, v *target)) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		f := objects.Firewall("thief")
		change(f, v)
		return done(c.MetalStackFirewalls(own).Create(ctx, f, metav1.CreateOptions{}))
	}
}

func withCluster(change func(s *api.MetalStackClusterSpec, v *target)) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		cluster := objects.Cluster("thief")
		change(&cluster.Spec, v)
		return done(c.MetalStackClusters(own).Create(ctx, cluster, metav1.CreateOptions{}))
	}
}

func withTemplate(change func(s *api.MetalStackClusterSpec, v *target)) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		template := &api.MetalStackClusterTemplate{ObjectMeta: metav1.ObjectMeta{Name: "thief"}}
		template.Spec.Template.Spec = objects.Cluster("").Spec
		change(&template.Spec.Template.Spec, v)
		return done(c.MetalStackClusterTemplates(own).Create(ctx, template, metav1.CreateOptions{}))
	}
}

func withFirewallSpec(change func(s *api.MetalStackFirewallSpec, v *target)) func(s *api.MetalStackClusterSpec, v *target) {
	return func(s *api.MetalStackClusterSpec, v *target) {
		s.FirewallSpec = objects.Firewall("").Spec.DeepCopy()
		change(s.FirewallSpec, v)
	}
}

// patched changes a machine of the tenant's own.
func patched(format string, word func(v *target) string) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		return done(c.MetalStackMachines(own).Patch(ctx, "mine", types.MergePatchType, fmt.Appendf(nil, format, word(v)), metav1.PatchOptions{}))
	}
}

// shownBy lists a tenant's own namespace, or watches what is there.
func shownBy(opts func(v *target) metav1.ListOptions) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		return empty(names(ctx, c, own, opts(v)))
	}
}

// watched reads a watch's initial events, up to the bookmark that ends them.
func watched(ctx context.Context, c client, namespace string, opts metav1.ListOptions) error {
	yes := true
	opts.SendInitialEvents, opts.ResourceVersionMatch, opts.AllowWatchBookmarks = &yes, metav1.ResourceVersionMatchNotOlderThan, true
	events, err := c.MetalStackMachines(namespace).Watch(ctx, opts)
	if err != nil {
		return err
	}
	defer events.Stop()
	var found []string
	for e := range events.ResultChan() {
		m, ok := e.Object.(*api.MetalStackMachine)
		switch {
		case !ok:
			return apierrors.FromObject(e.Object)
		case e.Type == watch.Bookmark:
			return empty(found, nil)
		}
		found = append(found, m.Name)
	}
	return errors.New("the watch ended early")
}

func tenantReachesNoForeignMetal(t *testing.T, env *environment) {
	env.Bind(t, own, simulator.ProjectA)
	alice, aliceConfig := env.tenant(t, "alice", own)
	mallory, _ := env.tenant(t, "mallory", own, append([]string{"status", "allocation"}, operationSubresources...)...)
	env.mine(t, alice.InfrastructureV1alpha4())
	v := env.newTarget(t)
	env.tenant(t, "bob", theirs)
	before := env.metalOf(v.project)

	refused := func(t *testing.T, a attempt, c client) {
		t.Parallel()
		there, nowhere := a.try(soon(t), c, v), a.try(soon(t), c, none())
		for _, err := range []error{there, nowhere} {
			require.Error(t, err)
			require.NotErrorIs(t, err, errSuccess)
			assert.Equal(t, a.reason, apierrors.ReasonForError(err), "%v", err)
		}
		assert.Equal(t, none().masked(nowhere.Error()), v.masked(there.Error()), "whether it exists makes no difference")
		for _, word := range v.words() {
			assert.NotContains(t, nowhere.Error(), word, "no answer contains what the request did not name")
		}
	}
	t.Run("Attempts_AreRefused", func(t *testing.T) {
		for _, a := range append(attempts(), catalogueAttempts()...) {
			t.Run(a.name, func(t *testing.T) { refused(t, a, alice.InfrastructureV1alpha4()) })
		}
		for _, a := range append(overreaching(), operationAttempts()...) {
			t.Run("WithMoreRights/"+a.name, func(t *testing.T) { refused(t, a, mallory.InfrastructureV1alpha4()) })
		}
		t.Run("List_AcrossNamespacesShowsNothingForeign", func(t *testing.T) {
			t.Parallel()
			listAcrossNamespacesShowsNothingForeign(t, alice.InfrastructureV1alpha4())
		})
		t.Run("OwnerReference_ToForeignClusterMovesNothing", func(t *testing.T) {
			t.Parallel()
			env.ownerReferenceToForeignClusterMovesNothing(t, alice.InfrastructureV1alpha4(), v)
		})
		t.Run("Create_WithNameOfForeignMachineIsAllowed", func(t *testing.T) {
			t.Parallel()
			machines := alice.InfrastructureV1alpha4().MetalStackMachines(own)
			_, err := machines.Create(soon(t), objects.Machine(v.discovered), metav1.CreateOptions{})
			require.NoError(t, err, "a name is free where nothing bears it")
			require.NoError(t, machines.Delete(soon(t), v.discovered, metav1.DeleteOptions{}))
		})
		t.Run("NamespaceLabel_IsForbidden", func(t *testing.T) {
			t.Parallel()
			for _, namespace := range []string{own, theirs, none().namespace} {
				_, stderr, err := env.Kubectl(t, aliceConfig, "label", "--overwrite", "namespace", namespace, infrastructure.ProjectLabel+"="+v.project)
				require.Error(t, err)
				assert.Contains(t, stderr, "Forbidden")
			}
		})
	})
	assert.Equal(t, before, env.metalOf(v.project), "what is theirs is as it was")
	shown, err := names(soon(t), env.admin(t), theirs, metav1.ListOptions{})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{v.machine, v.discovered}, shown)
}

// listAcrossNamespacesShowsNothingForeign: whether it is forbidden to look or
// not.
func listAcrossNamespacesShowsNothingForeign(t *testing.T, c client) {
	list, err := c.MetalStackMachines(metav1.NamespaceAll).List(soon(t), metav1.ListOptions{})
	if err != nil {
		require.True(t, apierrors.IsForbidden(err), "%v", err)
	} else {
		for _, m := range list.Items {
			assert.Equal(t, own, m.Namespace)
		}
	}
	err = watched(soon(t), c, metav1.NamespaceAll, metav1.ListOptions{FieldSelector: "metadata.namespace=" + theirs})
	require.Error(t, err)
	require.NotErrorIs(t, err, errSuccess)
}

// mine are objects of the tenant's own, which nobody allocates.
func (env *environment) mine(t *testing.T, c client) {
	t.Helper()
	paused := map[string]string{infrastructure.PausedAnnotation: ""}
	m, cluster := objects.Machine("mine"), objects.Cluster("mine")
	m.Annotations, cluster.Annotations = paused, paused
	_, err := c.MetalStackMachines(own).Create(soon(t), m, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.MetalStackClusters(own).Create(soon(t), cluster, metav1.CreateOptions{})
	require.NoError(t, err)
}

// ownerReferenceToForeignClusterMovesNothing: the garbage collector looks for
// owners in the namespace of what they own, and finds none.
func (env *environment) ownerReferenceToForeignClusterMovesNothing(t *testing.T, c client, v *target) {
	block := true
	for _, to := range []*target{v, none()} {
		m := objects.Machine("owned-" + to.uid)
		m.Finalizers = nil
		m.Annotations = map[string]string{infrastructure.PausedAnnotation: ""}
		m.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: api.SchemeGroupVersion.String(), Kind: "MetalStackCluster", Name: to.cluster, UID: types.UID(to.uid), BlockOwnerDeletion: &block,
		}}
		_, err := c.MetalStackMachines(own).Create(soon(t), m, metav1.CreateOptions{})
		require.NoError(t, err)
		framework.Eventually(t, limit, func(context.Context) error {
			m, err := c.MetalStackMachines(own).Get(t.Context(), m.Name, metav1.GetOptions{})
			if err == nil && m.DeletionTimestamp == nil {
				err = errors.New("it is not collected")
			}
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
}
