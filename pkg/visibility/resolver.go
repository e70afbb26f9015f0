// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
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
	// authorizeTimeout is how long the authorizer may take for one decision.
	authorizeTimeout = 10 * time.Second
	// maxEntries is how many entries without watches are cached.
	maxEntries = 2000
	// entryTTL is how long an entry without watches is cached: longer than clients
	// take to come back that lost their watch.
	entryTTL = 15 * time.Minute
)

// Request is a list or a watch.
type Request struct {
	User     user.Info
	Resource schema.GroupResource
	// Namespace is the only one that is requested, empty for all of them.
	Namespace string
	// Name is the only object in it that is requested, empty for all of them.
	Name string
}

// Resolver determines what lists and watches show. The kube-apiserver lets tenants
// list and watch across all namespaces; what they then see is decided by what
// they may get:
//
//   - across all namespaces, the objects of those namespaces in which the user
//     may get the resource;
//   - in a namespace, all of its objects, or nothing: it is forbidden, and the
//     answer is the same whether or not the namespace exists;
//   - everything, for users who may get the resource in all namespaces, or list
//     all resources of the cluster. The kube-controller-manager may only do
//     the latter: its garbage collector and its quotas would miss everything.
//
// A watch ends when its Set changes. A watch resumes from a revision only if the
// Set is known to be what it was at that revision.
type Resolver struct {
	authorizer authorizer.Authorizer
	revision   func(context.Context) (uint64, error)
	clock      clock.WithTicker

	mu      sync.Mutex
	entries map[string]*entry
}

// NewResolver returns a Resolver that asks an authorizer. A change of what a user
// may see takes a revision of its own, which revision issues: lists before it have
// a lower one, and lists after it have not.
func NewResolver(a authorizer.Authorizer, revision func(context.Context) (uint64, error), c clock.WithTicker) *Resolver {
	return &Resolver{authorizer: a, revision: revision, clock: c, entries: map[string]*entry{}}
}

// List returns what a list shows. The caller closes it.
func (r *Resolver) List(ctx context.Context, request Request) (*Set, error) {
	if request.Namespace == "" {
		return r.resolve(ctx, request, false)
	}
	all, err := r.mayGetAll(ctx, request)
	switch {
	case err != nil:
		return nil, authorizerUnavailable(ctx, request, err)
	case !all:
		return nil, forbidden(request)
	}
	return &Set{all: true}, nil
}

// Watch returns what a watch shows, until that changes. The caller closes it.
func (r *Resolver) Watch(ctx context.Context, request Request) (*Set, error) {
	return r.resolve(ctx, request, true)
}

func (r *Resolver) resolve(ctx context.Context, request Request, isWatch bool) (*Set, error) {
	e := r.acquire(request)
	set := &Set{ctx: ctx, entry: e, isWatch: isWatch, done: make(chan struct{})}
	if isWatch {
		set.maxStaleness = maxStaleness
	}
	// First: a decision that is made after the revision was issued cannot differ
	// from what lists of that revision have shown.
	e.ensureRevision(ctx)
	if _, err := e.allowed(ctx, allNamespaces, 0); err != nil {
		set.Close()
		return nil, authorizerUnavailable(ctx, request, err)
	}
	e.attach(set)
	if request.Namespace != "" && !set.all {
		set.Close()
		return nil, forbidden(request)
	}
	return set, nil
}

// mayGetAll checks whether the user may see all objects that the request is about.
func (r *Resolver) mayGetAll(ctx context.Context, request Request) (bool, error) {
	allowed, err := r.authorize(ctx, authorizer.AttributesRecord{
		User: request.User, Verb: "get", Namespace: request.Namespace, Name: request.Name,
		APIGroup: request.Resource.Group, Resource: request.Resource.Resource,
	})
	if allowed || err != nil {
		return allowed, err
	}
	return r.authorize(ctx, authorizer.AttributesRecord{User: request.User, Verb: "list", APIGroup: "*", Resource: "*"})
}

// authorize asks the authorizer for one decision.
func (r *Resolver) authorize(ctx context.Context, attributes authorizer.AttributesRecord) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, authorizeTimeout)
	defer cancel()
	attributes.ResourceRequest, attributes.APIVersion = true, "*"
	decision, _, err := r.authorizer.Authorize(ctx, attributes)
	if decision == authorizer.DecisionAllow {
		return true, nil // RBAC can allow although it cannot evaluate all rules.
	}
	return false, err
}

// acquire returns the entry of a request, for use until it is released.
func (r *Resolver) acquire(request Request) *entry {
	key := request.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e == nil {
		r.evictOldest()
		e = newEntry(r, key, request)
		r.entries[key] = e
	}
	e.references++
	e.lastUsed = r.clock.Now()
	e.setUser(request.User)
	return e
}

func (r *Resolver) release(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.references--
	e.lastUsed = r.clock.Now()
	// Requests for a single namespace are authorized anew each time.
	if e.references == 0 && e.request.Namespace != "" {
		delete(r.entries, e.key)
	}
}

// evictOldest makes room for another entry, if needed.
func (r *Resolver) evictOldest() {
	if len(r.entries) < maxEntries {
		return
	}
	var oldest *entry
	for _, e := range r.entries {
		if e.references == 0 && (oldest == nil || e.lastUsed.Before(oldest.lastUsed)) {
			oldest = e
		}
	}
	if oldest != nil {
		delete(r.entries, oldest.key)
	}
}

// evictExpired drops entries that have not been used for entryTTL.
func (r *Resolver) evictExpired() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	maps.DeleteFunc(r.entries, func(_ string, e *entry) bool {
		return e.references == 0 && now.Sub(e.lastUsed) >= entryTTL
	})
}

// key is equal for requests that are shown the same. A user who renews a
// certificate or a token is the same user.
func (r Request) key() string {
	extra := maps.Clone(r.User.GetExtra())
	delete(extra, user.CredentialIDKey)
	// Strings and maps of strings can always be marshalled.
	key, _ := json.Marshal([]any{
		r.User.GetName(), r.User.GetUID(), r.User.GetGroups(), extra,
		r.Resource.Group, r.Resource.Resource, r.Namespace, r.Name,
	})
	return string(key)
}

func forbidden(r Request) error {
	return apierrors.NewForbidden(r.Resource, r.Name, fmt.Errorf(
		"user %q cannot list resource %q in namespace %q: permission to get it there is required. An administrator can grant it: kubectl create rolebinding NAME --clusterrole=view --user=%s --namespace=%s",
		r.User.GetName(), r.Resource.Resource, r.Namespace, shellQuote(r.User.GetName()), r.Namespace))
}

// shellQuote quotes an argument for a POSIX shell.
func shellQuote(e string) string {
	return "'" + strings.ReplaceAll(e, "'", `'\''`) + "'"
}

// authorizerUnavailable is the answer if the authorizer made no decision. The cause
// is logged, and not shown to the user.
func authorizerUnavailable(ctx context.Context, r Request, cause error) error {
	if ctx.Err() == nil {
		klog.FromContext(ctx).Error(cause, "Failed to authorize a list or watch", "user", r.User.GetName(), "resource", r.Resource, "namespace", r.Namespace)
	}
	return apierrors.NewServiceUnavailable(fmt.Sprintf("authorizer unavailable: cannot check which %s user %q may see: retry", r.Resource.Resource, r.User.GetName()))
}

func accessChanged(r Request) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("access of user %q to %s has changed: relist", r.User.GetName(), r.Resource.Resource))
}

// accessUnknown is the answer to a watch that resumes from a revision of which it is
// not known what the user was shown.
func accessUnknown(r Request, revision uint64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d: it is not known which %s user %q could see across namespaces: relist across namespaces", revision, r.Resource.Resource, r.User.GetName()))
}
