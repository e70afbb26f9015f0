// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/admission"
)

const (
	// readyTimeout is how long a request waits for policies and webhooks to be read, as at a
	// start: as long as in Kubernetes. readyInterval is how often it looks.
	readyTimeout  = 10 * time.Second
	readyInterval = 50 * time.Millisecond
	// retryAfterSeconds is when a client may try again afterwards.
	retryAfterSeconds = 1
)

var (
	_ admission.MutationInterface   = mutator{}
	_ admission.ValidationInterface = validator{}
)

// plugin is one of Kubernetes' own, from the moment when it is known whether the cluster
// serves what it reads.
type plugin struct {
	name string
	// mutates is true of a plugin that changes requests, false of one that validates them.
	mutates bool
	// resources are what it reads, of the group of policies and webhooks.
	resources []string
	create    func() (admission.Interface, error)
	// reads returns whether a request to the metal-api of a cluster only reads.
	reads func(method, path string) bool
	// state is nil before it is known whether the cluster serves what it reads.
	state atomic.Pointer[pluginState]
}

type pluginState struct {
	serving serving
	// inner is nil until the cluster serves what it reads.
	inner *inner
}

// inner is a plugin of Kubernetes and what it reads.
type inner struct {
	admission.Interface

	sources []*source
	synced  atomic.Bool
}

// serving is whether the cluster serves what a plugin reads.
type serving int

const (
	// notServed: what was not read is not applied.
	notServed serving = iota
	// servedLater: it was not served before. What was not read is not applied yet: in an update
	// of the cluster, some kube-apiservers do not serve it yet.
	servedLater
	// servedAtFirst: requests wait until it was read.
	servedAtFirst
)

// isSynced returns whether all was read that the plugin reads.
func (p *plugin) isSynced() bool {
	s := p.state.Load()
	return s != nil && s.inner != nil && s.inner.isSynced()
}

// skip notes that the cluster does not serve what the plugin reads, and returns whether that
// is news.
func (p *plugin) skip() bool {
	s := p.state.Load()
	if s == nil {
		s = &pluginState{serving: servedAtFirst}
	}
	p.state.Store(&pluginState{serving: notServed, inner: s.inner})
	return s.serving != notServed
}

// apply notes that the cluster serves what the plugin reads, and has that read.
func (p *plugin) apply(initializer admission.PluginInitializer, sources *sources) error {
	next := &pluginState{serving: servedAtFirst}
	if s := p.state.Load(); s != nil {
		next.inner = s.inner
		if s.serving != servedAtFirst {
			next.serving = servedLater
		}
	}
	if next.inner == nil {
		created, err := p.create()
		if err != nil {
			return err
		}
		next.inner = &inner{Interface: created, sources: sources.of(p.resources)}
		initializer.Initialize(created)
		if err := admission.ValidateInitialization(created); err != nil {
			return err
		}
	}
	p.state.Store(next)
	return nil
}

// Handles implements admission.Interface.
func (p *plugin) Handles(operation admission.Operation) bool {
	s := p.state.Load()
	return s == nil || s.inner != nil && s.inner.Handles(operation)
}

// mutator is a plugin that changes requests.
type mutator struct{ *plugin }

// Admit implements admission.MutationInterface.
func (p mutator) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	inner, err := p.ready(ctx, a)
	if err == nil && inner != nil {
		err = inner.(admission.MutationInterface).Admit(ctx, a, o)
	}
	return explain(a, err)
}

// validator is a plugin that validates requests.
type validator struct{ *plugin }

// Validate implements admission.ValidationInterface.
func (p validator) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	inner, err := p.ready(ctx, a)
	if err == nil && inner != nil {
		err = inner.(admission.ValidationInterface).Validate(ctx, a, o)
	}
	return explain(a, err)
}

// ready returns what decides about a request, nil if nothing does. It waits until that has
// been read, but not for a right that is missing.
func (p *plugin) ready(ctx context.Context, a admission.Attributes) (admission.Interface, error) {
	if p.isExempt(ctx, a) {
		return nil, nil
	}
	if p.unready() != "" {
		err := wait.PollUntilContextTimeout(ctx, readyInterval, readyTimeout, true, func(context.Context) (bool, error) {
			return p.unready() == "" || p.forbidden() != nil, nil
		})
		if reason := p.unready(); reason != "" {
			unavailable := apierrors.NewServiceUnavailable("the request cannot be admitted now: " + reason)
			if err != nil {
				unavailable.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
			}
			return nil, unavailable
		}
	}
	s := p.state.Load()
	// What the cluster begins to serve later may have operations that it does not handle.
	if s.inner == nil || !s.inner.isSynced() || !s.inner.Handles(a.GetOperation()) {
		return nil, nil
	}
	return s.inner.Interface, nil
}

// unready returns why the plugin cannot decide yet, "" if it can.
func (p *plugin) unready() string {
	s := p.state.Load()
	if s == nil {
		return "it is not known yet which admission policies and webhooks the cluster serves"
	}
	if s.serving == notServed || s.inner.isSynced() {
		return ""
	}
	if lacking := s.inner.forbidden(); lacking != nil {
		return fmt.Sprintf("this server may not read %s: %s", lacking.resource.GroupResource(), rightsHint)
	}
	if s.serving == servedLater {
		return ""
	}
	return s.inner.unread() + " could not be read yet"
}

// forbidden returns what the plugin may not read, nil if there is no such resource.
func (p *plugin) forbidden() *source {
	if s := p.state.Load(); s != nil && s.inner != nil {
		return s.inner.forbidden()
	}
	return nil
}

func (i *inner) forbidden() *source {
	for _, source := range i.sources {
		if !source.informer.HasSynced() && source.isForbidden() {
			return source
		}
	}
	return nil
}

// unread lists what was not read yet.
func (i *inner) unread() string {
	var names []string
	for _, source := range i.sources {
		if !source.informer.HasSynced() {
			names = append(names, source.resource.GroupResource().String())
		}
	}
	return strings.Join(names, " and ")
}

func (i *inner) isSynced() bool {
	if i.synced.Load() {
		return true
	}
	for _, source := range i.sources {
		if !source.informer.HasSynced() {
			return false
		}
	}
	i.synced.Store(true)
	return true
}
