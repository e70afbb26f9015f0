// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const controllerManagerInterval = 4 * time.Second

// controllerManager asks for metal and releases it, as
// metalstack-controller-manager does: it knows nothing but what it lists.
type controllerManager struct {
	env  *environment
	mu   sync.Mutex
	busy map[string]bool
	work sync.WaitGroup
	// passes are counted: every fourth asks for the most recent state, and the
	// others for the view.
	passes int
}

func (c *controllerManager) run(ctx context.Context) {
	defer c.work.Wait()
	for ctx.Err() == nil {
		c.pass()
		c.env.sleep(ctx, controllerManagerInterval)
	}
}

// pass looks at all objects once.
func (c *controllerManager) pass() {
	all := map[string][]runtime.Object{}
	version := "0"
	if c.passes++; c.passes%4 == 0 {
		version = ""
	}
	for _, resource := range resources {
		list, err := c.env.list(resource, version)
		if err != nil {
			return
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			if managed(item) {
				all[resource] = append(all[resource], item)
			}
			return nil
		})
	}
	for _, resource := range resources {
		for _, obj := range all[resource] {
			c.reconcile(resource, obj, all)
		}
	}
}

// reconcile does what is next for an object, unless something is under way.
func (c *controllerManager) reconcile(resource string, obj runtime.Object, all map[string][]runtime.Object) {
	m := obj.(metav1.Object)
	var do func() error
	state := stateOf(obj)
	switch {
	case m.GetDeletionTimestamp() == nil && state.Phase != infrastructure.AllocationAllocated:
		cluster := clusterOf(m.GetName())
		if resource == clusters {
			cluster = ""
		} else if !hasNetwork(all[clusters], cluster) {
			return
		}
		do = func() error { return c.env.allocate(resource, m.GetName(), m.GetUID(), cluster) }
	case m.GetDeletionTimestamp() == nil:
		return
	case resource == clusters && c.deleteMembers(m.GetName(), all):
		return
	case state.Phase == infrastructure.AllocationReleased, state.Phase == "" && state.Attempt == 0:
		do = func() error { return c.env.finish(resource, m) }
	default:
		do = func() error { return c.env.release(resource, m.GetName(), m.GetUID()) }
	}
	c.start(resource+"/"+m.GetName(), do)
}

// deleteMembers deletes what belongs to a cluster that is being deleted; it is
// false if there is nothing left.
func (c *controllerManager) deleteMembers(cluster string, all map[string][]runtime.Object) bool {
	left := false
	for _, resource := range []string{machines, firewalls} {
		for _, obj := range all[resource] {
			m := obj.(metav1.Object)
			if clusterOf(m.GetName()) != cluster {
				continue
			}
			left = true
			if m.GetDeletionTimestamp() == nil {
				c.start(resource+"/"+m.GetName(), func() error { return c.env.remove(resource, m.GetName(), m.GetUID()) })
			}
		}
	}
	return left
}

func (c *controllerManager) start(key string, do func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[key] {
		return
	}
	c.busy[key] = true
	c.work.Go(func() {
		if err := do(); err != nil {
			c.env.note("the controller manager, for %s: %.200v", key, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, key)
	})
}

// stateOf is what a record says of its allocation.
func stateOf(obj runtime.Object) infrastructure.AllocationState {
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	case *infrastructure.MetalStackFirewall:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	case *infrastructure.MetalStackCluster:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	}
	return infrastructure.AllocationState{}
}

// clusterOf is the cluster that a machine or firewall belongs to, by name.
func clusterOf(name string) string { return "c" + name[1:2] }

func hasNetwork(all []runtime.Object, name string) bool {
	for _, obj := range all {
		if c := obj.(*infrastructure.MetalStackCluster); c.Name == name {
			return stateOf(c).Phase == infrastructure.AllocationAllocated && c.DeletionTimestamp == nil
		}
	}
	return false
}
