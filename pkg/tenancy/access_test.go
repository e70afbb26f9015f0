package tenancy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/clock"
)

var machines = schema.GroupResource{Group: "infrastructure.cluster.x-k8s.io", Resource: "metalstackmachines"}

// policy is an authorizer that a test decides on.
type policy struct {
	mu sync.Mutex
	// allowed are "USER VERB GROUP/RESOURCE NAMESPACE NAME"; namespace and name
	// "*" for all, as with RBAC.
	allowed map[string]bool
	asked   []string
	err     error
}

func (p *policy) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, fmt.Sprintf("%s %s %s", a.GetUser().GetName(), a.GetVerb(), a.GetNamespace()))
	if p.err != nil {
		return authorizer.DecisionNoOpinion, "", p.err
	}
	kind := fmt.Sprintf("%s %s %s/%s", a.GetUser().GetName(), a.GetVerb(), a.GetAPIGroup(), a.GetResource())
	for _, where := range []string{"* *", a.GetNamespace() + " *", a.GetNamespace() + " " + a.GetName()} {
		if p.allowed[kind+" "+where] {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (p *policy) set(allow bool, who, namespace string) {
	p.rule(allow, who+" get "+machines.Group+"/"+machines.Resource+" "+namespace+" *")
}

func (p *policy) rule(allow bool, rule string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed[rule] = allow
}

func (p *policy) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// questions returns what was asked since the last call.
func (p *policy) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// world is an Access that runs in a bubble, over a policy and a scale of
// revisions.
type world struct {
	*Access
	*policy
	last atomic.Uint64
}

func inWorld(t *testing.T, do func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{policy: &policy{allowed: map[string]bool{}}}
		w.last.Store(100)
		w.Access = NewAccess(w.policy, func(context.Context) (uint64, error) { return w.last.Add(1), nil }, clock.RealClock{})
		go w.Run(t.Context())
		do(t, w)
	})
}

func across(who string) Request {
	return Request{User: &user.DefaultInfo{Name: who}, Resource: machines}
}

func in(who, namespace string) Request {
	r := across(who)
	r.Namespace = namespace
	return r
}

// list returns which of the namespaces a list shows.
func (w *world) list(t *testing.T, r Request, namespaces ...string) []string {
	t.Helper()
	visibility, err := w.List(t.Context(), r)
	require.NoError(t, err)
	defer visibility.Close()
	seen := seenOf(visibility, namespaces...)
	require.NoError(t, visibility.Err())
	return seen
}

func seenOf(visibility *Visibility, namespaces ...string) []string {
	seen := []string{}
	for _, namespace := range namespaces {
		if visibility.Includes(namespace) {
			seen = append(seen, namespace)
		}
	}
	return seen
}

func (w *world) watch(t *testing.T, r Request) *Visibility {
	t.Helper()
	visibility, err := w.Watch(t.Context(), r)
	require.NoError(t, err)
	t.Cleanup(visibility.Close)
	return visibility
}

// endsWithin fails unless the visibility ends in time, and tells its watchers to
// list again.
func endsWithin(t *testing.T, visibility *Visibility, limit time.Duration) {
	t.Helper()
	select {
	case <-visibility.Done():
		require.Error(t, visibility.Err())
		assert.True(t, apierrors.IsResourceExpired(visibility.Err()), "%v", visibility.Err())
	case <-time.After(limit):
		t.Fatalf("it goes on after %s", limit)
	}
}

func goesOnFor(t *testing.T, visibility *Visibility, period time.Duration) {
	t.Helper()
	select {
	case <-visibility.Done():
		t.Fatal(visibility.Err())
	case <-time.After(period):
	}
}

func TestAcrossNamespacesThoseAreSeenInWhichTheUserMayGet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		w.set(true, "bob", "b")
		assert.Equal(t, []string{"a"}, w.list(t, across("alice"), "a", "b", "c"))
		assert.Equal(t, []string{"b"}, w.list(t, across("bob"), "a", "b", "c"))
		assert.Empty(t, w.list(t, across("carol"), "a", "b", "c"))
		assert.Equal(t, []string{"a"}, seenOf(w.watch(t, across("alice")), "a", "b", "c"))
	})
}

func TestMayGetOneObjectIsNotMayGetTheNamespace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.rule(true, "alice get infrastructure.cluster.x-k8s.io/metalstackmachines a node-1")
		assert.Empty(t, w.list(t, across("alice"), "a"))
		_, err := w.List(t.Context(), in("alice", "a"))
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		one := in("alice", "a")
		one.Name = "node-1"
		assert.Equal(t, []string{"a"}, w.list(t, one, "a"))
	})
}

func TestWhoeverMayGetEverywhereCostsOneQuestion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "admin", "*")
		for range 3 {
			assert.Equal(t, []string{"a", "b", "c"}, w.list(t, across("admin"), "a", "b", "c"))
		}
		assert.Equal(t, []string{"admin get "}, w.questions())
	})
}

// The kube-controller-manager's informers, from which its garbage collector
// and its quotas work, may list and watch whatever there is, and not get it.
func TestWhoeverMayListWhateverThereIsSeesEverything(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.rule(true, "manager list */* * *")
		assert.Equal(t, []string{"a", "b"}, w.list(t, across("manager"), "a", "b"))
		assert.Equal(t, []string{"a"}, w.list(t, in("manager", "a"), "a"))
		assert.True(t, w.watch(t, across("manager")).All())
		w.rule(true, "tenant list infrastructure.cluster.x-k8s.io/metalstackmachines * *")
		assert.Empty(t, w.list(t, across("tenant"), "a", "b"), "that is not whatever there is")
	})
}

func TestANamespaceInWhichTheUserMayNotGetIsForbidden(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		assert.Equal(t, []string{"a"}, w.list(t, in("alice", "a"), "a"))
		for _, ask := range []func(context.Context, Request) (*Visibility, error){w.List, w.Watch} {
			_, err := ask(t.Context(), in("alice", "b"))
			require.True(t, apierrors.IsForbidden(err), "%v", err)
			assert.ErrorContains(t, err, `the user "alice" may not get metalstackmachines in the namespace "b"`)
			assert.ErrorContains(t, err, "kubectl create rolebinding NAME --clusterrole=view --user=alice --namespace=b")
		}
		assert.Empty(t, w.scopes, "nothing is remembered of it")
	})
}

func TestAWatchEndsWhenTheUserLosesANamespace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		w.set(true, "alice", "b")
		all, one, other := w.watch(t, across("alice")), w.watch(t, in("alice", "a")), w.watch(t, in("alice", "b"))
		assert.Equal(t, []string{"a", "b"}, seenOf(all, "a", "b", "c"))
		goesOnFor(t, all, time.Minute)
		w.set(false, "alice", "a")
		endsWithin(t, all, 2*againInterval)
		endsWithin(t, one, 2*againInterval)
		goesOnFor(t, other, time.Minute)
		_, err := w.Watch(t.Context(), in("alice", "a"))
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		assert.Equal(t, []string{"b"}, seenOf(w.watch(t, across("alice")), "a", "b", "c"))
	})
}

func TestAWatchEndsWhenTheUserGainsANamespace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		visibility := w.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, seenOf(visibility, "a", "b"))
		w.set(true, "alice", "b")
		endsWithin(t, visibility, 2*againInterval)
		assert.Equal(t, []string{"a", "b"}, w.list(t, across("alice"), "a", "b"))
	})
}

func TestAWatchEndsWhenTheUserGainsOrLosesEverything(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for range 2 {
			visibility := w.watch(t, across("alice"))
			assert.Empty(t, seenOf(visibility, "a", "b"))
			w.set(true, "alice", "*")
			endsWithin(t, visibility, 2*againInterval)
			visibility = w.watch(t, across("alice"))
			assert.True(t, visibility.All())
			w.set(false, "alice", "*")
			endsWithin(t, visibility, 2*againInterval)
		}
	})
}

// A namespace without objects, or a new one, is asked for when the first object
// comes: the watch has shown nothing of it, and goes on.
func TestANamespaceThatNobodyAskedForYetEndsNoWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		visibility := w.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, seenOf(visibility, "a"))
		w.set(true, "alice", "new")
		goesOnFor(t, visibility, time.Minute)
		assert.Equal(t, []string{"new"}, seenOf(visibility, "new", "newer"))
		goesOnFor(t, visibility, time.Minute)
	})
}

func TestAWatchGoesOnFromAListThatHasShownTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		w.list(t, across("alice"), "a", "b")
		listed := w.last.Load()
		time.Sleep(10 * time.Minute)
		visibility := w.watch(t, across("alice"))
		require.NoError(t, visibility.Resume(listed))
		require.NoError(t, visibility.Resume(listed+5))
		assert.Error(t, visibility.Resume(listed-1), "a revision of which nothing is known")
		goesOnFor(t, visibility, time.Minute)
	})
}

func TestAWatchDoesNotGoOnFromAListThatHasShownSomethingElse(t *testing.T) {
	for name, change := range map[string]func(*world){
		"a namespace is gained": func(w *world) { w.set(true, "alice", "b") },
		"a namespace is lost":   func(w *world) { w.set(false, "alice", "a") },
		"everything is gained":  func(w *world) { w.set(true, "alice", "*") },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.set(true, "alice", "a")
				w.list(t, across("alice"), "a", "b")
				listed := w.last.Load()
				change(w)
				time.Sleep(10 * time.Minute)
				visibility := w.watch(t, across("alice"))
				if err := visibility.Resume(listed); err != nil {
					assert.True(t, apierrors.IsResourceExpired(err), "%v", err)
					return
				}
				// It was not asked for yet: then it soon is.
				endsWithin(t, visibility, 2*againInterval)
				visibility = w.watch(t, across("alice"))
				assert.True(t, apierrors.IsResourceExpired(visibility.Resume(listed)), "%v", visibility.Resume(listed))
				w.list(t, across("alice"), "a", "b")
				assert.NoError(t, w.watch(t, across("alice")).Resume(w.last.Load()), "a list after it")
			})
		})
	}
}

func TestAServerThatKnowsNothingOfAListDoesNotGoOnFromIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "admin", "*")
		listed := w.last.Load()
		visibility := w.watch(t, across("admin"))
		assert.True(t, apierrors.IsResourceExpired(visibility.Resume(listed)))
		assert.NoError(t, visibility.Resume(w.last.Load()))
		w.set(true, "alice", "a")
		assert.NoError(t, w.watch(t, in("alice", "a")).Resume(listed), "all of a namespace is the same always")
	})
}

func TestWithoutARevisionListsGoOnAndWatchesBeginWithAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &policy{allowed: map[string]bool{}}
		var broken atomic.Bool
		broken.Store(true)
		w := &world{policy: p, Access: NewAccess(p, func(context.Context) (uint64, error) {
			if broken.Load() {
				return 0, errors.New("the ledger is away")
			}
			return 7, nil
		}, clock.RealClock{})}
		p.set(true, "alice", "a")
		assert.Equal(t, []string{"a"}, w.list(t, across("alice"), "a", "b"))
		assert.Error(t, w.watch(t, across("alice")).Resume(1000))
		broken.Store(false)
		time.Sleep(2 * goodFor)
		assert.NoError(t, w.watch(t, across("alice")).Resume(7))
	})
}

func TestWhoIsRevokedWhileNobodyWatchesSeesNothingWhenWatchingAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		visibility := w.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, seenOf(visibility, "a"))
		visibility.Close()
		w.set(false, "alice", "a")
		time.Sleep(time.Minute)
		assert.Empty(t, seenOf(w.watch(t, across("alice")), "a"))
	})
}
