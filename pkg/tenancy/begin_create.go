// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
)

const (
	// getTimeout is how long the read of one Namespace may take.
	getTimeout = 2 * time.Second
	// syncTimeout is how long to wait until a change of a Namespace is reconciled.
	syncTimeout = 3 * time.Second
	// retryAfterSeconds is the Retry-After of the answer after that.
	retryAfterSeconds = 1
)

// BeginCreate returns an API status, which says why and what to do, if no object can be
// created in a namespace. Otherwise the namespace's binding does not change before
// done is called. A Namespace that the watch does not show yet is read live, so an
// object may be created right after its Namespace.
func (n *Namespaces) BeginCreate(ctx context.Context, resource schema.GroupResource, namespace, name string) (done func(), err error) {
	if done = n.keepBinding(ctx, namespace); done != nil {
		return done, nil
	}
	if err := n.waitForSync(ctx, namespace); err != nil {
		return nil, err
	}
	if done = n.keepBinding(ctx, namespace); done != nil {
		return done, nil
	}
	r := n.state.Load().results[namespace]
	if r.deleting {
		return nil, namespaceTerminating(resource, namespace, name)
	}
	return nil, NotBound(resource, namespace, name, r.advice())
}

// keepBinding keeps the binding from changing, if there is one under which objects
// can be created; otherwise it returns nil.
func (n *Namespaces) keepBinding(ctx context.Context, namespace string) (leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.state.Load()
	r := s.results[namespace]
	if _, bound := s.bindings[namespace]; !bound || r.deleting || r.uid == "" {
		return nil
	}
	if r.outcome == stillBound {
		warning.Add(ctx, "%s", r.stillBoundWarning())
	}
	n.creating[namespace]++
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.creating[namespace]--; n.creating[namespace] == 0 {
			delete(n.creating, namespace)
		}
	})
}

// waitForSync returns when the present state of a Namespace is reconciled.
func (n *Namespaces) waitForSync(ctx context.Context, name string) error {
	getCtx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	live, err := timeRead(n.clock, "get", func() (*metav1.PartialObjectMetadata, error) {
		return n.client.Resource(resource).Get(getCtx, name, metav1.GetOptions{})
	})
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return unavailable(fmt.Sprintf("failed to get namespace %q: %v", name, err))
	}
	timer := n.clock.NewTimer(syncTimeout)
	defer timer.Stop()
	for {
		n.mu.Lock()
		moved := n.stateChanged
		n.mu.Unlock()
		if r, found := n.state.Load().results[name]; found && r.uid == live.UID && isAtLeast(r.resourceVersion, live.ResourceVersion) {
			return nil
		}
		select {
		case <-moved:
		case <-timer.C():
			return unavailable(fmt.Sprintf("the project label of namespace %q is not synced yet", name))
		case <-ctx.Done():
			return unavailable(fmt.Sprintf("the project label of namespace %q is not synced yet: %v", name, ctx.Err()))
		}
	}
}

// isAtLeast reports whether a resource version is not older than another.
func isAtLeast(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err == nil && order >= 0 || version == than
}

func unavailable(message string) error {
	err := apierrors.NewServiceUnavailable(message)
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
	return err
}

// namespaceTerminating is the kube-apiserver's answer for its own kinds; controllers
// recognize it by its cause.
func namespaceTerminating(resource schema.GroupResource, namespace, name string) error {
	err := apierrors.NewForbidden(resource, name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Field: "metadata.namespace", Message: fmt.Sprintf("namespace %s is being terminated", namespace),
	})
	return err
}

// projectIDHelp is what the label's value must be.
const projectIDHelp = "must be the id of a metal-stack project, which is a UUID in lower case: see 'metalctl project list'"

// advice is why the namespace is not bound, and what a tenant can do. It reveals
// nothing about other namespaces.
func (r result) advice() string {
	label := infrastructure.ProjectLabel
	switch r.outcome {
	case invalid:
		return fmt.Sprintf("its label %s is %q, and %s; ask an administrator to correct it: kubectl label --overwrite namespace %s %s=<project id>", label, r.project, projectIDHelp, r.name, label)
	case abandoned:
		return fmt.Sprintf("objects of an earlier namespace of this name were left behind: an administrator must resolve this first. Ask one to follow the Events of this Namespace: kubectl -n default get events --field-selector involvedObject.kind=Namespace,involvedObject.name=%s", r.name)
	case projectTaken:
		return fmt.Sprintf("the project %s, which its label names, belongs to another namespace of this cluster, and a project has one namespace; ask an administrator for a project of its own", r.project)
	}
	return fmt.Sprintf("ask an administrator to bind it: kubectl label namespace %s %s=<project id>", r.name, label)
}

// stillBoundWarning is why the binding differs from the label.
func (r result) stillBoundWarning() string {
	return fmt.Sprintf("the namespace %q stays bound to the project %s, although %s, until the last object of %s in it is deleted", r.name, r.boundProject, r.labelChange(), infrastructure.GroupName)
}

// labelChange describes the label that differs from the binding.
func (r result) labelChange() string {
	if !r.labeled {
		return "its label " + infrastructure.ProjectLabel + " is gone"
	}
	return fmt.Sprintf("its label %s is %q now", infrastructure.ProjectLabel, r.project)
}
