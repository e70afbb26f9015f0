// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
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

	// rightsHint is what a server lacks that may not read policies or webhooks.
	rightsHint = "grant the ServiceAccount metalstack-apiserver get, list and watch of them, as artifacts/deploy/apiserver-rbac.yaml does"
	// paramsUnsynced is in the error of a policy whose parameters could not be read yet, and
	// paramsHint what it lacks: upstream's server may read everything.
	paramsUnsynced = "not yet synced to use for admission"
	paramsHint     = ": if this remains, the ServiceAccount metalstack-apiserver may not get, list and watch this kind: grant it by a ClusterRole with the label " + ParamsLabel + `="true"`
)

// ParamsLabel is the label of ClusterRoles with which this server may read the parameters of
// policies: artifacts/deploy/apiserver-rbac.yaml aggregates them.
const ParamsLabel = "metal-stack.infrastructure.cluster.x-k8s.io/aggregate-to-admission-params"

// plugin is one of Kubernetes' own, from the moment when it is known whether the cluster
// serves what it reads.
type plugin struct {
	name string
	// resources are what it reads, of the group of policies and webhooks.
	resources []string
	create    func() (admission.Interface, error)
	// state is nil before that is known.
	state atomic.Pointer[pluginState]
}

type pluginState struct {
	// inner is nil if the cluster does not serve what the plugin reads.
	inner   admission.Interface
	sources []*source
	synced  atomic.Bool
}

var (
	_ admission.MutationInterface   = &plugin{}
	_ admission.ValidationInterface = &plugin{}
)

// isApplied returns whether the cluster serves what the plugin reads.
func (p *plugin) isApplied() bool {
	s := p.state.Load()
	return s != nil && s.inner != nil
}

// skip notes that the cluster does not serve what the plugin reads, and returns whether that
// was unknown.
func (p *plugin) skip() bool { return p.state.Swap(&pluginState{}) == nil }

// apply begins to apply what the sources read.
func (p *plugin) apply(initializer admission.PluginInitializer, sources []*source) error {
	inner, err := p.create()
	if err != nil {
		return err
	}
	initializer.Initialize(inner)
	if err := admission.ValidateInitialization(inner); err != nil {
		return err
	}
	p.state.Store(&pluginState{inner: inner, sources: sources})
	return nil
}

// Handles implements admission.Interface.
func (p *plugin) Handles(operation admission.Operation) bool {
	s := p.state.Load()
	return s == nil || s.inner != nil && s.inner.Handles(operation)
}

// Admit implements admission.MutationInterface.
func (p *plugin) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	inner, err := p.ready(ctx, a)
	if err != nil {
		return err
	}
	if mutator, ok := inner.(admission.MutationInterface); ok {
		return explain(mutator.Admit(ctx, a, o))
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (p *plugin) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	inner, err := p.ready(ctx, a)
	if err != nil {
		return err
	}
	if validator, ok := inner.(admission.ValidationInterface); ok {
		return explain(validator.Validate(ctx, a, o))
	}
	return nil
}

// ready returns what decides about a request, nil if nothing does. It waits until that has
// been read, but not for a right that is missing.
func (p *plugin) ready(ctx context.Context, a admission.Attributes) (admission.Interface, error) {
	if exempt(a) {
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
	if s.inner == nil || !s.inner.Handles(a.GetOperation()) {
		return nil, nil
	}
	return s.inner, nil
}

// unready returns why the plugin cannot decide yet, "" if it can.
func (p *plugin) unready() string {
	s := p.state.Load()
	switch {
	case s == nil:
		return "it is not known yet which admission policies and webhooks the cluster serves"
	case s.isSynced():
		return ""
	}
	if lacking := p.forbidden(); lacking != nil {
		return fmt.Sprintf("this server may not read %s: %s", lacking.resource.GroupResource(), rightsHint)
	}
	return fmt.Sprintf("the %s are not read yet", strings.Join(p.resources, " and "))
}

// forbidden returns what the plugin may not read, nil if there is no such resource.
func (p *plugin) forbidden() *source {
	if s := p.state.Load(); s != nil {
		for _, source := range s.sources {
			if !source.informer.HasSynced() && source.isForbidden() {
				return source
			}
		}
	}
	return nil
}

func (s *pluginState) isSynced() bool {
	if s.synced.Load() {
		return true
	}
	for _, source := range s.sources {
		if !source.informer.HasSynced() {
			return false
		}
	}
	s.synced.Store(true)
	return true
}

// explain adds what an operator can do to an error about the parameters of a policy.
func explain(err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !strings.Contains(status.ErrStatus.Message, paramsUnsynced) {
		return err
	}
	explained := &apierrors.StatusError{ErrStatus: *status.ErrStatus.DeepCopy()}
	explained.ErrStatus.Message += paramsHint
	return explained
}
