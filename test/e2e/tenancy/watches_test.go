// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/generated/informers/externalversions"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// handlerEvents are what an informer's handler was called with, as "ADDED name".
type handlerEvents struct {
	mu     sync.Mutex
	events []string
}

func (h *handlerEvents) add(what string, obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, what+" "+obj.(*v1alpha4.MetalStackMachine).Name)
}

// take waits until the handler was called with all that is wanted, and returns with what it was called.
func (h *handlerEvents) take(t *testing.T, want ...string) []string {
	t.Helper()
	var got []string
	framework.Eventually(t, limit, func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, words := range want {
			if !slices.Contains(h.events, words) {
				return fmt.Errorf("no event %q; the events are %q", words, h.events)
			}
		}
		got, h.events = h.events, nil
		return nil
	})
	return got
}

func informerFollowsGainedAndLostNamespaces(t *testing.T, env *tenantsEnvironment) {
	env.admin(t, "create", "rolebinding", "erin", "--clusterrole=view", "--user=erin", "-n", teamA)
	factory := externalversions.NewSharedInformerFactory(env.Metalstack(t, env.tenant("erin")), 0)
	informer := factory.Infrastructure().V1alpha4().MetalStackMachines().Informer()
	handler := &handlerEvents{}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { handler.add("ADDED", obj) },
		UpdateFunc: func(was, is any) {
			// An informer that lists again reports everything that it knew.
			if was.(*v1alpha4.MetalStackMachine).ResourceVersion != is.(*v1alpha4.MetalStackMachine).ResourceVersion {
				handler.add("MODIFIED", is)
			}
		},
		DeleteFunc: func(obj any) { handler.add("DELETED", obj) },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))

	eventsOf := func(what, team string) []string {
		return collect(namesOf(team), func(name string) string { return what + " " + name })
	}
	none := func(got []string, team string) {
		for _, words := range got {
			assert.NotContains(t, words, team)
		}
	}
	none(handler.take(t, eventsOf("ADDED", teamA)...), passing)

	env.admin(t, "create", "rolebinding", "erin", "--clusterrole=view", "--user=erin", "-n", passing)
	none(handler.take(t, eventsOf("ADDED", passing)...), teamA)

	// What happens there now is delivered as it happens.
	machines := env.machines(t, env.Admin(), passing)
	_, err = machines.Create(t.Context(), objects.Machine("here"), metav1.CreateOptions{})
	require.NoError(t, err)
	handler.take(t, "ADDED here")
	require.NoError(t, machines.Delete(t.Context(), "here", metav1.DeleteOptions{}))
	here, err := machines.Get(t.Context(), "here", metav1.GetOptions{})
	require.NoError(t, err)
	here.Finalizers = nil
	_, err = machines.Update(t.Context(), here, metav1.UpdateOptions{})
	require.NoError(t, err)
	handler.take(t, "DELETED here")

	env.admin(t, "delete", "rolebinding", "erin", "-n", teamA)
	none(handler.take(t, eventsOf("DELETED", teamA)...), passing)
	assert.Len(t, informer.GetStore().List(), count)
}

func watchOfNamespaceEndsWithItsPermission(t *testing.T, env *tenantsEnvironment) {
	env.admin(t, "create", "rolebinding", "frank", "--clusterrole=view", "--user=frank", "-n", teamA)
	machines := env.machines(t, env.tenant("frank"), teamA)
	awaitLists(t, machines)
	watching, err := machines.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watching.Stop()
	env.admin(t, "delete", "rolebinding", "frank", "-n", teamA)
	var last watch.Event
	framework.Eventually(t, limit, func(ctx context.Context) error {
		for {
			select {
			case event, open := <-watching.ResultChan():
				if !open {
					return nil
				}
				last = event
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	require.Equal(t, watch.Error, last.Type)
	assert.True(t, apierrors.IsResourceExpired(apierrors.FromObject(last.Object)), "%v", last.Object)
	_, err = machines.Watch(t.Context(), metav1.ListOptions{})
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
}
