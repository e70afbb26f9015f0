// SPDX-License-Identifier: Apache-2.0

package visibility

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
	allowed   map[string]bool
	requested []string
	err       error
}

func (p *policy) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requested = append(p.requested, fmt.Sprintf("%s %s %s", a.GetUser().GetName(), a.GetVerb(), a.GetNamespace()))
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

// requests returns the requests since the last call.
func (p *policy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := p.requested
	p.requested = nil
	return requests
}

// environment is a Resolver that runs in a synctest bubble, over a policy and a
// sequence of revisions.
type environment struct {
	*Resolver
	*policy
	last atomic.Uint64
}

func inEnvironment(t *testing.T, do func(*testing.T, *environment)) {
	synctest.Test(t, func(t *testing.T) {
		e := &environment{policy: &policy{allowed: map[string]bool{}}}
		e.last.Store(100)
		e.Resolver = NewResolver(e.policy, func(context.Context) (uint64, error) { return e.last.Add(1), nil }, clock.RealClock{})
		go e.Run(t.Context())
		do(t, e)
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
func (e *environment) list(t *testing.T, r Request, namespaces ...string) []string {
	t.Helper()
	set, err := e.List(t.Context(), r)
	require.NoError(t, err)
	defer set.Close()
	visible := visibleOf(set, namespaces...)
	require.NoError(t, set.Err())
	return visible
}

func visibleOf(set *Set, namespaces ...string) []string {
	visible := []string{}
	for _, namespace := range namespaces {
		if set.Includes(namespace) {
			visible = append(visible, namespace)
		}
	}
	return visible
}

func (e *environment) watch(t *testing.T, r Request) *Set {
	t.Helper()
	set, err := e.Watch(t.Context(), r)
	require.NoError(t, err)
	t.Cleanup(set.Close)
	return set
}

// requireEndsWithin fails unless the set ends in time, and its watchers have to
// list again.
func requireEndsWithin(t *testing.T, set *Set, limit time.Duration) {
	t.Helper()
	select {
	case <-set.Done():
		require.Error(t, set.Err())
		assert.True(t, apierrors.IsResourceExpired(set.Err()), "%v", set.Err())
	case <-time.After(limit):
		t.Fatalf("it continues after %s", limit)
	}
}

func requireContinues(t *testing.T, set *Set, period time.Duration) {
	t.Helper()
	select {
	case <-set.Done():
		t.Fatal(set.Err())
	case <-time.After(period):
	}
}

func TestResolver_AcrossNamespacesShowsThoseInWhichTheUserMayGet(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		e.set(true, "bob", "b")
		assert.Equal(t, []string{"a"}, e.list(t, across("alice"), "a", "b", "c"))
		assert.Equal(t, []string{"b"}, e.list(t, across("bob"), "a", "b", "c"))
		assert.Empty(t, e.list(t, across("carol"), "a", "b", "c"))
		assert.Equal(t, []string{"a"}, visibleOf(e.watch(t, across("alice")), "a", "b", "c"))
	})
}

func TestResolver_PermissionForOneObjectDoesNotShowTheNamespace(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.rule(true, "alice get infrastructure.cluster.x-k8s.io/metalstackmachines a node-1")
		assert.Empty(t, e.list(t, across("alice"), "a"))
		_, err := e.List(t.Context(), in("alice", "a"))
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		one := in("alice", "a")
		one.Name = "node-1"
		assert.Equal(t, []string{"a"}, e.list(t, one, "a"))
	})
}

func TestResolver_UserWhoMayGetEverywhereCostsOneAuthorization(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "admin", "*")
		for range 3 {
			assert.Equal(t, []string{"a", "b", "c"}, e.list(t, across("admin"), "a", "b", "c"))
		}
		assert.Equal(t, []string{"admin get "}, e.requests())
	})
}

// The kube-controller-manager's informers, from which its garbage collector
// and its quotas work, may list and watch whatever there is, and not get it.
func TestResolver_UserWhoMayListAllResourcesSeesEverything(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.rule(true, "manager list */* * *")
		assert.Equal(t, []string{"a", "b"}, e.list(t, across("manager"), "a", "b"))
		assert.Equal(t, []string{"a"}, e.list(t, in("manager", "a"), "a"))
		assert.True(t, e.watch(t, across("manager")).All())
		e.rule(true, "tenant list infrastructure.cluster.x-k8s.io/metalstackmachines * *")
		assert.Empty(t, e.list(t, across("tenant"), "a", "b"), "that is not whatever there is")
	})
}

func TestResolver_ForbidsNamespaceInWhichTheUserMayNotGet(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		assert.Equal(t, []string{"a"}, e.list(t, in("alice", "a"), "a"))
		for _, ask := range []func(context.Context, Request) (*Set, error){e.List, e.Watch} {
			_, err := ask(t.Context(), in("alice", "b"))
			require.True(t, apierrors.IsForbidden(err), "%v", err)
			assert.ErrorContains(t, err, `user "alice" cannot list resource "metalstackmachines" in namespace "b"`)
			assert.ErrorContains(t, err, "kubectl create rolebinding NAME --clusterrole=view --user='alice' --namespace=b")
		}
		assert.Empty(t, e.entries, "nothing is remembered of it")
	})
}

func TestWatch_EndsWhenTheUserLosesANamespace(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		e.set(true, "alice", "b")
		all, one, other := e.watch(t, across("alice")), e.watch(t, in("alice", "a")), e.watch(t, in("alice", "b"))
		assert.Equal(t, []string{"a", "b"}, visibleOf(all, "a", "b", "c"))
		requireContinues(t, all, time.Minute)
		e.set(false, "alice", "a")
		requireEndsWithin(t, all, 2*refreshInterval)
		requireEndsWithin(t, one, 2*refreshInterval)
		requireContinues(t, other, time.Minute)
		_, err := e.Watch(t.Context(), in("alice", "a"))
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		assert.Equal(t, []string{"b"}, visibleOf(e.watch(t, across("alice")), "a", "b", "c"))
	})
}

func TestWatch_EndsWhenTheUserGainsANamespace(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		set := e.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, visibleOf(set, "a", "b"))
		e.set(true, "alice", "b")
		requireEndsWithin(t, set, 2*refreshInterval)
		assert.Equal(t, []string{"a", "b"}, e.list(t, across("alice"), "a", "b"))
	})
}

func TestWatch_EndsWhenTheUserGainsOrLosesEverything(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		for range 2 {
			set := e.watch(t, across("alice"))
			assert.Empty(t, visibleOf(set, "a", "b"))
			e.set(true, "alice", "*")
			requireEndsWithin(t, set, 2*refreshInterval)
			set = e.watch(t, across("alice"))
			assert.True(t, set.All())
			e.set(false, "alice", "*")
			requireEndsWithin(t, set, 2*refreshInterval)
		}
	})
}

// A namespace without objects, or a new one, is authorized when its first object
// appears: the watch has shown nothing of it, and continues.
func TestWatch_ContinuesWhenANewNamespaceIsAuthorized(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		set := e.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, visibleOf(set, "a"))
		e.set(true, "alice", "new")
		requireContinues(t, set, time.Minute)
		assert.Equal(t, []string{"new"}, visibleOf(set, "new", "newer"))
		requireContinues(t, set, time.Minute)
	})
}

func TestCheckResume_AllowsRevisionOfAListWithTheSameSet(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		e.list(t, across("alice"), "a", "b")
		listed := e.last.Load()
		time.Sleep(10 * time.Minute)
		set := e.watch(t, across("alice"))
		require.NoError(t, set.CheckResume(listed))
		require.NoError(t, set.CheckResume(listed+5))
		assert.Error(t, set.CheckResume(listed-1), "a revision of which nothing is known")
		requireContinues(t, set, time.Minute)
	})
}

func TestCheckResume_RefusesRevisionOfAListWithAnotherSet(t *testing.T) {
	for name, change := range map[string]func(*environment){
		"a namespace is gained": func(e *environment) { e.set(true, "alice", "b") },
		"a namespace is lost":   func(e *environment) { e.set(false, "alice", "a") },
		"everything is gained":  func(e *environment) { e.set(true, "alice", "*") },
	} {
		t.Run(name, func(t *testing.T) {
			inEnvironment(t, func(t *testing.T, e *environment) {
				e.set(true, "alice", "a")
				e.list(t, across("alice"), "a", "b")
				listed := e.last.Load()
				change(e)
				time.Sleep(10 * time.Minute)
				set := e.watch(t, across("alice"))
				if err := set.CheckResume(listed); err != nil {
					assert.True(t, apierrors.IsResourceExpired(err), "%v", err)
					return
				}
				// The change was not noticed yet; it soon is.
				requireEndsWithin(t, set, 2*refreshInterval)
				set = e.watch(t, across("alice"))
				assert.True(t, apierrors.IsResourceExpired(set.CheckResume(listed)), "%v", set.CheckResume(listed))
				e.list(t, across("alice"), "a", "b")
				assert.NoError(t, e.watch(t, across("alice")).CheckResume(e.last.Load()), "a list after it")
			})
		})
	}
}

func TestCheckResume_RefusesRevisionOfAnotherServersList(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "admin", "*")
		listed := e.last.Load()
		set := e.watch(t, across("admin"))
		err := set.CheckResume(listed)
		assert.True(t, apierrors.IsResourceExpired(err))
		assert.ErrorContains(t, err, `it is not known which metalstackmachines user "admin" could see across namespaces`)
		assert.NoError(t, set.CheckResume(e.last.Load()))
		e.set(true, "alice", "a")
		assert.NoError(t, e.watch(t, in("alice", "a")).CheckResume(listed), "all of a namespace is the same always")
	})
}

func TestResolver_WithoutARevisionListsWorkAndWatchesRelist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &policy{allowed: map[string]bool{}}
		var broken atomic.Bool
		broken.Store(true)
		e := &environment{policy: p, Resolver: NewResolver(p, func(context.Context) (uint64, error) {
			if broken.Load() {
				return 0, errors.New("the ledger is away")
			}
			return 7, nil
		}, clock.RealClock{})}
		p.set(true, "alice", "a")
		assert.Equal(t, []string{"a"}, e.list(t, across("alice"), "a", "b"))
		assert.Error(t, e.watch(t, across("alice")).CheckResume(1000))
		broken.Store(false)
		time.Sleep(2 * decisionTTL)
		assert.NoError(t, e.watch(t, across("alice")).CheckResume(7))
	})
}

func TestWatch_ShowsNothingAfterRevocationBetweenTwoWatches(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		set := e.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, visibleOf(set, "a"))
		set.Close()
		e.set(false, "alice", "a")
		time.Sleep(time.Minute)
		assert.Empty(t, visibleOf(e.watch(t, across("alice")), "a"))
	})
}

// The command of the message may be pasted into a shell.
func TestForbidden_QuotesTheUserForTheShell(t *testing.T) {
	t.Parallel()
	for name, quoted := range map[string]string{
		"alice":                         `--user='alice' `,
		"oidc:alice smith; rm -rf /":    `--user='oidc:alice smith; rm -rf /' `,
		"o'brien":                       `--user='o'\''brien' `,
		"system:serviceaccount:a:b$(x)": `--user='system:serviceaccount:a:b$(x)' `,
	} {
		assert.ErrorContains(t, forbidden(in(name, "b")), quoted)
	}
}
