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

// told is what an informer's handler was told, as "ADDED name".
type told struct {
	mu     sync.Mutex
	events []string
}

func (o *told) say(what string, obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, what+" "+obj.(*v1alpha4.MetalStackMachine).Name)
}

// take waits until all that is wanted was told, and returns what was told.
func (o *told) take(t *testing.T, want ...string) []string {
	t.Helper()
	var got []string
	framework.Eventually(t, limit, func(context.Context) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, words := range want {
			if !slices.Contains(o.events, words) {
				return fmt.Errorf("%q was not told; %q was", words, o.events)
			}
		}
		got, o.events = o.events, nil
		return nil
	})
	return got
}

func informerFollowsGainedAndLostNamespaces(t *testing.T, env *tenantsEnvironment) {
	env.admin(t, "create", "rolebinding", "erin", "--clusterrole=view", "--user=erin", "-n", teamA)
	factory := externalversions.NewSharedInformerFactory(env.Metalstack(t, env.tenant("erin")), 0)
	informer := factory.Infrastructure().V1alpha4().MetalStackMachines().Informer()
	heard := &told{}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { heard.say("ADDED", obj) },
		UpdateFunc: func(was, is any) {
			// An informer that lists again tells of everything that it knew.
			if was.(*v1alpha4.MetalStackMachine).ResourceVersion != is.(*v1alpha4.MetalStackMachine).ResourceVersion {
				heard.say("MODIFIED", is)
			}
		},
		DeleteFunc: func(obj any) { heard.say("DELETED", obj) },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))

	said := func(what, team string) []string {
		return collect(namesOf(team), func(name string) string { return what + " " + name })
	}
	none := func(got []string, team string) {
		for _, words := range got {
			assert.NotContains(t, words, team)
		}
	}
	none(heard.take(t, said("ADDED", teamA)...), passing)

	env.admin(t, "create", "rolebinding", "erin", "--clusterrole=view", "--user=erin", "-n", passing)
	none(heard.take(t, said("ADDED", passing)...), teamA)

	// What happens there now is told as it happens.
	machines := env.machines(t, env.Admin(), passing)
	_, err = machines.Create(t.Context(), objects.Machine("here"), metav1.CreateOptions{})
	require.NoError(t, err)
	heard.take(t, "ADDED here")
	require.NoError(t, machines.Delete(t.Context(), "here", metav1.DeleteOptions{}))
	here, err := machines.Get(t.Context(), "here", metav1.GetOptions{})
	require.NoError(t, err)
	here.Finalizers = nil
	_, err = machines.Update(t.Context(), here, metav1.UpdateOptions{})
	require.NoError(t, err)
	heard.take(t, "DELETED here")

	env.admin(t, "delete", "rolebinding", "erin", "-n", teamA)
	none(heard.take(t, said("DELETED", teamA)...), passing)
	assert.Len(t, informer.GetStore().List(), count)
}

func watchOfNamespaceEndsWithItsPermission(t *testing.T, env *tenantsEnvironment) {
	env.admin(t, "create", "rolebinding", "frank", "--clusterrole=view", "--user=frank", "-n", teamA)
	machines := env.machines(t, env.tenant("frank"), teamA)
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
