// SPDX-License-Identifier: Apache-2.0

package managerroles

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const own = "metal-stack-system"

type fixture struct {
	*Controller
	client *fake.Clientset
	bound  map[string]types.UID
	events *events.FakeRecorder
	clock  *clocktesting.FakePassiveClock
}

func newFixture(objects ...runtime.Object) *fixture { return newFixtureOf(BootstrapData, objects...) }

func newFixtureOf(role Role, objects ...runtime.Object) *fixture {
	f := &fixture{
		client: fake.NewClientset(objects...), bound: map[string]types.UID{},
		events: events.NewFakeRecorder(100), clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0)),
	}
	f.Controller = New(Options{
		Role: role, Client: f.client, Namespace: own, Account: "metalstack-controller-manager",
		Bound: func() map[string]types.UID { return f.bound }, Events: f.events, Clock: f.clock,
	})
	return f
}

// found are the RoleBindings that there are, by namespace.
func (f *fixture) found(t *testing.T) map[string]*rbacv1.RoleBinding {
	t.Helper()
	list, err := f.client.RbacV1().RoleBindings("").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	found := map[string]*rbacv1.RoleBinding{}
	for i := range list.Items {
		found[list.Items[i].Namespace] = &list.Items[i]
	}
	return found
}

func (f *fixture) round(t *testing.T) error {
	t.Helper()
	return f.reconcile(t.Context(), f.found(t))
}

func (f *fixture) recordedEvents() []string {
	var notes []string
	for {
		select {
		case note := <-f.events.Events:
			notes = append(notes, note)
		default:
			return notes
		}
	}
}

func binding(namespace, role, subject string, labels map[string]string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: BootstrapData.Name, Labels: labels, UID: types.UID(namespace), ResourceVersion: "1"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: subject, Namespace: own}},
	}
}

var ours = map[string]string{ManagedByLabel: ManagedBy}

func TestReconcile_GrantsInBoundNamespacesOnly(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.bound = map[string]types.UID{"team-a": "1", "team-b": "2", own: "3", "kube-system": "4"}
	require.NoError(t, f.round(t), "nothing is to be retried")
	found := f.found(t)
	require.Len(t, found, 2)
	for _, namespace := range []string{"team-a", "team-b"} {
		b := found[namespace]
		require.NotNil(t, b)
		assert.True(t, f.isUpToDate(b), "%v", b)
		assert.Equal(t, "metalstack-bootstrap-data", b.RoleRef.Name)
		assert.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "metalstack-controller-manager", Namespace: own}}, b.Subjects)
	}
	assert.Len(t, f.recordedEvents(), 2, "one Event for each namespace without access")
	assert.Len(t, f.failures, 2)
	assert.NoError(t, f.round(t))
	assert.Empty(t, f.recordedEvents(), "once")
	f.clock.SetTime(f.clock.Now().Add(repeatInterval))
	assert.NoError(t, f.round(t))
	assert.Len(t, f.recordedEvents(), 2, "and again before Events expire")
}

func TestReconcile_GrantsEachRoleByItsName(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(MetalAPIAccess, binding("team-a", BootstrapData.Name, "metalstack-controller-manager", ours))
	f.bound = map[string]types.UID{"team-a": "1", "kube-system": "2"}
	require.NoError(t, f.reconcile(t.Context(), nil))
	list, err := f.client.RbacV1().RoleBindings("team-a").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	for _, b := range list.Items {
		assert.Equal(t, b.Name, b.RoleRef.Name)
	}
	recorded := f.recordedEvents()
	require.Len(t, recorded, 1)
	assert.Contains(t, recorded[0], ReasonAccessNotGranted)
}

// Without a policy that restricts it, the role would allow far more than it is for.
func TestReconcile_GrantsOnlyWhileGrantable(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(MetalAPIAccess)
	var why error
	known := false
	f.Grantable = func() (bool, error) { return known, why }
	granted := func() bool {
		t.Helper()
		require.NoError(t, f.round(t))
		return f.found(t)["team-a"] != nil
	}
	f.bound = map[string]types.UID{"team-a": "1"}
	assert.False(t, granted(), "not known yet")
	assert.Empty(t, f.recordedEvents())
	known, why = true, errors.New("the policy is not enforced")
	assert.False(t, granted())
	why = nil
	assert.True(t, granted())
	known = false
	assert.True(t, granted(), "what was granted stays while it is not known")
	f.recordedEvents()
	known, why = true, errors.New("the policy is not enforced")
	assert.False(t, granted())
	recorded := f.recordedEvents()
	require.Len(t, recorded, 1)
	assert.Contains(t, recorded[0], ReasonAccessNotGranted)
	assert.Contains(t, recorded[0], "the policy is not enforced")
	assert.False(t, granted())
	assert.Empty(t, f.recordedEvents(), "once")
}

func TestReconcile_WritesNothingWithoutDifference(t *testing.T) {
	t.Parallel()
	f := newFixture(binding("team-a", BootstrapData.Name, "metalstack-controller-manager", ours))
	f.bound = map[string]types.UID{"team-a": "1"}
	require.NoError(t, f.round(t))
	for _, action := range f.client.Actions() {
		assert.Equal(t, "list", action.GetVerb())
	}
}

func TestReconcile_RevokesWhenBindingEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(
		binding("team-a", BootstrapData.Name, "metalstack-controller-manager", ours),
		binding("team-b", BootstrapData.Name, "other", nil), // not ours
	)
	require.NoError(t, f.round(t))
	found := f.found(t)
	assert.NotContains(t, found, "team-a")
	assert.Contains(t, found, "team-b")
}

func TestReconcile_CorrectsChangedRoleBinding(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]*rbacv1.RoleBinding{
		"another subject":              binding("team-a", BootstrapData.Name, "thief", ours),
		"no label":                     binding("team-a", BootstrapData.Name, "metalstack-controller-manager", nil),
		"recreated with another role":  binding("team-a", "admin", "metalstack-controller-manager", ours),
		"another subject and no label": binding("team-a", BootstrapData.Name, "thief", nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(changed)
			f.bound = map[string]types.UID{"team-a": "1"}
			require.NoError(t, f.round(t))
			assert.True(t, f.isUpToDate(f.found(t)["team-a"]), "%v", f.found(t)["team-a"])
		})
	}
}

func TestReconcile_LeavesForeignRoleBinding(t *testing.T) {
	t.Parallel()
	f := newFixture(binding("team-a", "admin", "other", nil))
	f.bound = map[string]types.UID{"team-a": "1", "team-b": "2"}
	require.NoError(t, f.round(t), "that it is deleted comes as an event")
	assert.Equal(t, "admin", f.found(t)["team-a"].RoleRef.Name)
	assert.True(t, f.isUpToDate(f.found(t)["team-b"]), "other namespaces do not wait for it")
	recorded := f.recordedEvents()
	require.Len(t, recorded, 1)
	assert.Contains(t, recorded[0], "delete it")
}

// failIn has writes in a namespace, or in all of them, fail.
func (f *fixture) failIn(namespace, verb string, err error) {
	f.client.PrependReactor(verb, "rolebindings", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return namespace == "" || a.GetNamespace() == namespace, nil, err
	})
}

// writes are the namespaces in which something was written, in their order.
func (f *fixture) writes() (namespaces []string) {
	for _, action := range f.client.Actions() {
		if action.GetVerb() != "list" {
			namespaces = append(namespaces, action.GetNamespace())
		}
	}
	f.client.ClearActions()
	return namespaces
}

func TestReconcile_StopsWhenClusterIsUnreachable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err           error
		first, second []string
	}{
		"no answer":       {errors.New("connection refused"), []string{"team-a"}, []string{"team-b"}},
		"internal error":  {apierrors.NewInternalError(errors.New("etcd")), []string{"team-a", "team-b", "team-c"}, []string{"team-d", "team-a", "team-b"}},
		"too many at one": {apierrors.NewTooManyRequests("later", 1), []string{"team-a"}, []string{"team-b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			f.failIn("", "patch", test.err)
			f.bound = map[string]types.UID{"team-a": "1", "team-b": "2", "team-c": "3", "team-d": "4"}
			require.ErrorIs(t, f.round(t), test.err)
			assert.Equal(t, test.first, f.writes())
			require.ErrorIs(t, f.round(t), test.err)
			assert.Equal(t, test.second, f.writes(), "the next round begins after the one that failed")
		})
	}
}

func TestReconcile_ServesOtherNamespacesBesideOneThatFails(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"its webhook fails": apierrors.NewInternalError(errors.New("failed calling webhook")),
		"its webhook hangs": context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(binding("old-a", BootstrapData.Name, "metalstack-controller-manager", ours), binding("old-b", BootstrapData.Name, "metalstack-controller-manager", ours))
			f.failIn("team-a", "patch", err)
			f.failIn("old-a", "delete", err)
			f.bound = map[string]types.UID{"team-a": "1", "team-b": "2", "team-c": "3"}
			require.ErrorIs(t, f.round(t), err)
			require.ErrorIs(t, f.round(t), err)
			assert.ElementsMatch(t, []string{"old-a", "team-b", "team-c"}, slices.Collect(maps.Keys(f.found(t))))
		})
	}
}

func TestReconcile_RetriesForbiddenNamespaceRarely(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.failIn("team-a", "patch", apierrors.NewForbidden(rbacv1.Resource("rolebindings"), BootstrapData.Name, errors.New("the namespace has no label")))
	f.bound = map[string]types.UID{"team-a": "1"}
	require.ErrorContains(t, f.round(t), "no label")
	f.clock.SetTime(f.clock.Now().Add(forbiddenRetryPeriod - time.Second))
	require.ErrorContains(t, f.round(t), "no label", "the kube-apiserver may not have seen the label yet")
	assert.Len(t, f.writes(), 2)
	f.clock.SetTime(f.clock.Now().Add(time.Second))
	require.NoError(t, f.round(t), "tried again with all others only")
	assert.Empty(t, f.writes(), "a tenant's change costs no request")
	assert.Len(t, f.recordedEvents(), 1)
	assert.Len(t, f.failures, 1)
	f.client.ReactionChain = f.client.ReactionChain[1:]
	f.clock.SetTime(f.clock.Now().Add(resync))
	require.NoError(t, f.round(t))
	assert.True(t, f.isUpToDate(f.found(t)["team-a"]))
	assert.Empty(t, f.failures)
	assert.Empty(t, f.refusals)
}

func TestReconcile_ContinuesAfterRefusalInOneNamespace(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.client.PrependReactor("patch", "rolebindings", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetNamespace() == "team-a" {
			return true, nil, apierrors.NewForbidden(rbacv1.Resource("rolebindings"), BootstrapData.Name, errors.New("the namespace has no label"))
		}
		return false, nil, nil
	})
	f.bound = map[string]types.UID{"team-a": "1", "team-b": "2"}
	require.ErrorContains(t, f.round(t), "no label")
	assert.Contains(t, f.found(t), "team-b")
	require.Len(t, f.failures, 1)
	f.bound = map[string]types.UID{"team-b": "2"}
	require.NoError(t, f.round(t))
	assert.Empty(t, f.failures, "it is not bound any more")
}

func TestReconcile_RestoresDeletedRoleBinding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.bound = map[string]types.UID{"team-a": "1"}
		go f.Run(t.Context())
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, f.isUpToDate(f.found(t)["team-a"]))
		require.NoError(t, f.client.RbacV1().RoleBindings("team-a").Delete(t.Context(), BootstrapData.Name, metav1.DeleteOptions{}))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Contains(t, f.found(t), "team-a")
	})
}

func TestReport_WritesOneLineOfBoundedLength(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.report(t.Context(), "team-a", "1", errors.New("refused:\n"+strings.Repeat("x", 2*oneline.MaxNote)))
	recorded := f.recordedEvents()
	require.Len(t, recorded, 1)
	_, note, found := strings.Cut(recorded[0], ReasonUnreadable+" ")
	require.True(t, found, recorded[0])
	assert.LessOrEqual(t, len(note), oneline.MaxNote)
	assert.NotContains(t, note, "\n")
}
