package bootstrapdata

import (
	"errors"
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
)

const own = "metal-stack-system"

type fixture struct {
	*Keeper
	client *fake.Clientset
	bound  map[string]types.UID
	events *events.FakeRecorder
	clock  *clocktesting.FakePassiveClock
}

func newFixture(objects ...runtime.Object) *fixture {
	f := &fixture{
		client: fake.NewClientset(objects...), bound: map[string]types.UID{},
		events: events.NewFakeRecorder(100), clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0)),
	}
	f.Keeper = New(Options{
		Client: f.client, Namespace: own, Account: "metalstack-controller-manager",
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
	return f.keep(t.Context(), f.found(t))
}

func (f *fixture) told() []string {
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
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name, Labels: labels, UID: types.UID(namespace), ResourceVersion: "1"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: subject, Namespace: own}},
	}
}

var ours = map[string]string{ManagedByLabel: ManagedBy}

func TestKeep_GrantsInBoundNamespacesAndNowhereElse(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.bound = map[string]types.UID{"team-a": "1", "team-b": "2", own: "3", "kube-system": "4"}
	require.ErrorIs(t, f.round(t), errReserved)
	found := f.found(t)
	require.Len(t, found, 2)
	for _, namespace := range []string{"team-a", "team-b"} {
		b := found[namespace]
		require.NotNil(t, b)
		assert.True(t, f.isRight(b), "%v", b)
		assert.Equal(t, "metalstack-bootstrap-data", b.RoleRef.Name)
		assert.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "metalstack-controller-manager", Namespace: own}}, b.Subjects)
	}
	assert.Len(t, f.told(), 2, "an Event for each namespace in which nothing can be read")
	assert.Error(t, f.round(t))
	assert.Empty(t, f.told(), "once")
	f.clock.SetTime(f.clock.Now().Add(sayAgain))
	assert.Error(t, f.round(t))
	assert.Len(t, f.told(), 2, "and again before Events expire")
}

func TestKeep_WritesNothingWhenAllIsRight(t *testing.T) {
	t.Parallel()
	f := newFixture(binding("team-a", Name, "metalstack-controller-manager", ours))
	f.bound = map[string]types.UID{"team-a": "1"}
	require.NoError(t, f.round(t))
	for _, action := range f.client.Actions() {
		assert.Equal(t, "list", action.GetVerb())
	}
}

func TestKeep_RevokesWhenABindingEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(
		binding("team-a", Name, "metalstack-controller-manager", ours),
		binding("team-b", Name, "somebody", nil), // not ours
	)
	require.NoError(t, f.round(t))
	found := f.found(t)
	assert.NotContains(t, found, "team-a")
	assert.Contains(t, found, "team-b")
}

func TestKeep_CorrectsWhatWasChanged(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]*rbacv1.RoleBinding{
		"another subject":              binding("team-a", Name, "thief", ours),
		"no label":                     binding("team-a", Name, "metalstack-controller-manager", nil),
		"made anew with another role":  binding("team-a", "admin", "metalstack-controller-manager", ours),
		"another subject and no label": binding("team-a", Name, "thief", nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(changed)
			f.bound = map[string]types.UID{"team-a": "1"}
			require.NoError(t, f.round(t))
			assert.True(t, f.isRight(f.found(t)["team-a"]), "%v", f.found(t)["team-a"])
		})
	}
}

func TestKeep_LeavesARoleBindingOfSomebodyElse(t *testing.T) {
	t.Parallel()
	f := newFixture(binding("team-a", "admin", "somebody", nil))
	f.bound = map[string]types.UID{"team-a": "1", "team-b": "2"}
	require.ErrorIs(t, f.round(t), errTaken)
	assert.Equal(t, "admin", f.found(t)["team-a"].RoleRef.Name)
	assert.True(t, f.isRight(f.found(t)["team-b"]), "other namespaces do not wait for it")
	told := f.told()
	require.Len(t, told, 1)
	assert.Contains(t, told[0], "delete it")
}

func TestKeep_EndsTheRoundWhenTheClusterIsAway(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no answer":       errors.New("connection refused"),
		"internal error":  apierrors.NewInternalError(errors.New("etcd")),
		"too many at one": apierrors.NewTooManyRequests("later", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			f.client.PrependReactor("patch", "rolebindings", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
			f.bound = map[string]types.UID{"team-a": "1", "team-b": "2", "team-c": "3"}
			require.ErrorIs(t, f.round(t), err)
			patches := 0
			for _, action := range f.client.Actions() {
				if action.GetVerb() == "patch" {
					patches++
				}
			}
			assert.Equal(t, 1, patches)
		})
	}
}

func TestKeep_GoesOnAfterARefusalInOneNamespace(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.client.PrependReactor("patch", "rolebindings", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetNamespace() == "team-a" {
			return true, nil, apierrors.NewForbidden(rbacv1.Resource("rolebindings"), Name, errors.New("the namespace has no label"))
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

func TestRun_RestoresARoleBindingThatIsDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.bound = map[string]types.UID{"team-a": "1"}
		go f.Run(t.Context())
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, f.isRight(f.found(t)["team-a"]))
		require.NoError(t, f.client.RbacV1().RoleBindings("team-a").Delete(t.Context(), Name, metav1.DeleteOptions{}))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Contains(t, f.found(t), "team-a")
	})
}
