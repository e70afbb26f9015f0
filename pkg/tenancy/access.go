package tenancy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// askLimit is how long the authorizer may take for one answer.
	askLimit = 10 * time.Second
	// maxScopes is how many scopes are remembered that nobody watches.
	maxScopes = 2000
	// scopeAge is how long a scope is remembered that nobody watches: longer
	// than clients take to come back that lost their watch.
	scopeAge = 15 * time.Minute
)

// Request is a list or a watch.
type Request struct {
	User     user.Info
	Resource schema.GroupResource
	// Namespace is the only one that is asked for, empty for all of them.
	Namespace string
	// Name is the only object in it that is asked for, empty for all of them.
	Name string
}

// Access decides what lists and watches show. The kube-apiserver lets tenants
// list and watch across all namespaces; what they then see is decided by what
// they may get:
//
//   - across all namespaces, the objects of those namespaces in which the user
//     may get the resource;
//   - in a namespace, all of its objects, or nothing: it is forbidden, and the
//     answer is the same whether or not there is such a namespace;
//   - everything, for those who may get the resource everywhere, or list
//     whatever there is in the cluster. The kube-controller-manager may only do
//     the latter: its garbage collector and its quotas would miss everything.
//
// A watch ends when the answer changes. A watch goes on from a revision only if
// the answer is known to be what it was at that revision.
type Access struct {
	authorizer authorizer.Authorizer
	revision   func(context.Context) (uint64, error)
	clock      clock.WithTicker

	mu     sync.Mutex
	scopes map[string]*scope
}

// NewAccess returns what asks an authorizer. A change of what somebody may see
// takes a revision of its own, which revision issues: lists before it have a
// lower one, and lists after it have not.
func NewAccess(a authorizer.Authorizer, revision func(context.Context) (uint64, error), c clock.WithTicker) *Access {
	return &Access{authorizer: a, revision: revision, clock: c, scopes: map[string]*scope{}}
}

// List returns what a list shows. The caller closes it.
func (a *Access) List(ctx context.Context, r Request) (*Visibility, error) {
	if r.Namespace == "" {
		return a.look(ctx, r, false)
	}
	whole, err := a.whole(ctx, r)
	switch {
	case err != nil:
		return nil, undecided(ctx, r, err)
	case !whole:
		return nil, forbidden(r)
	}
	return &Visibility{all: true}, nil
}

// Watch returns what a watch shows, until that changes. The caller closes it.
func (a *Access) Watch(ctx context.Context, r Request) (*Visibility, error) {
	return a.look(ctx, r, true)
}

func (a *Access) look(ctx context.Context, r Request, watching bool) (*Visibility, error) {
	s := a.open(r)
	visibility := &Visibility{ctx: ctx, scope: s, watching: watching, over: make(chan struct{})}
	if watching {
		visibility.slack = slack
	}
	// First: what is answered after the revision was issued, no list of that
	// revision can have shown otherwise.
	s.vouch(ctx)
	if _, err := s.answer(ctx, everywhere, 0); err != nil {
		visibility.Close()
		return nil, undecided(ctx, r, err)
	}
	s.join(visibility)
	if r.Namespace != "" && !visibility.all {
		visibility.Close()
		return nil, forbidden(r)
	}
	return visibility, nil
}

// whole asks whether a request may be answered with all that there is.
func (a *Access) whole(ctx context.Context, r Request) (bool, error) {
	yes, err := a.ask(ctx, authorizer.AttributesRecord{
		User: r.User, Verb: "get", Namespace: r.Namespace, Name: r.Name,
		APIGroup: r.Resource.Group, Resource: r.Resource.Resource,
	})
	if yes || err != nil {
		return yes, err
	}
	return a.ask(ctx, authorizer.AttributesRecord{User: r.User, Verb: "list", APIGroup: "*", Resource: "*"})
}

// ask puts one question to the authorizer.
func (a *Access) ask(ctx context.Context, question authorizer.AttributesRecord) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	question.ResourceRequest, question.APIVersion = true, "*"
	decision, _, err := a.authorizer.Authorize(ctx, question)
	if decision == authorizer.DecisionAllow {
		return true, nil // RBAC allows what it may even if it cannot evaluate everything.
	}
	return false, err
}

// open returns the scope of a request, for use until it is released.
func (a *Access) open(r Request) *scope {
	key := r.key()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.scopes[key]
	if s == nil {
		a.makeRoom()
		s = newScope(a, key, r)
		a.scopes[key] = s
	}
	s.users++
	s.used = a.clock.Now()
	s.setUser(r.User)
	return s
}

func (a *Access) release(s *scope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.users--
	s.used = a.clock.Now()
	// Whether a namespace may be seen is asked anew for each request.
	if s.users == 0 && s.request.Namespace != "" {
		delete(a.scopes, s.key)
	}
}

// makeRoom forgets what has not been used for the longest time.
func (a *Access) makeRoom() {
	if len(a.scopes) < maxScopes {
		return
	}
	var oldest *scope
	for _, s := range a.scopes {
		if s.users == 0 && (oldest == nil || s.used.Before(oldest.used)) {
			oldest = s
		}
	}
	if oldest != nil {
		delete(a.scopes, oldest.key)
	}
}

// forget drops the scopes that have not been used for long.
func (a *Access) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	maps.DeleteFunc(a.scopes, func(_ string, s *scope) bool {
		return s.users == 0 && now.Sub(s.used) >= scopeAge
	})
}

// key tells requests apart that may be shown different things. A user who
// renews a certificate or a token is the same user.
func (r Request) key() string {
	extra := maps.Clone(r.User.GetExtra())
	delete(extra, user.CredentialIDKey)
	// Of strings and maps of strings: it cannot fail.
	key, _ := json.Marshal([]any{
		r.User.GetName(), r.User.GetUID(), r.User.GetGroups(), extra,
		r.Resource.Group, r.Resource.Resource, r.Namespace, r.Name,
	})
	return string(key)
}

func forbidden(r Request) error {
	return apierrors.NewForbidden(r.Resource, r.Name, fmt.Errorf(
		"the user %q may not get %s in the namespace %q, and so not list or watch them there. An administrator may allow it: kubectl create rolebinding NAME --clusterrole=view --user=%s --namespace=%s",
		r.User.GetName(), r.Resource.Resource, r.Namespace, r.User.GetName(), r.Namespace))
}

// undecided is the answer if the authorizer gave none. Why not is for those
// who run it.
func undecided(ctx context.Context, r Request, cause error) error {
	if ctx.Err() == nil {
		klog.FromContext(ctx).Error(cause, "Cannot ask what a user may see", "user", r.User.GetName(), "resource", r.Resource, "namespace", r.Namespace)
	}
	return apierrors.NewServiceUnavailable(fmt.Sprintf("what the user %q may see of %s cannot be asked of the authorizer now: try again", r.User.GetName(), r.Resource.Resource))
}

func changed(r Request) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("what the user %q may see of %s has changed: list again", r.User.GetName(), r.Resource.Resource))
}
