// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"fmt"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// watchReady runs informers of all kinds until the test ends. What they have seen by then
// that must not happen: that something is gone, is another object, went back, or is not
// ready any more.
func (env *environment) watchReady() (seen func() []string) {
	env.t.Helper()
	var mu sync.Mutex
	var wrong []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}
	ctx := env.t.Context()
	for _, team := range env.teams {
		factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(env.dynamic, 0, team.Namespace, nil)
		for _, resource := range resources {
			_, err := factory.ForResource(api.SchemeGroupVersion.WithResource(resource)).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
				UpdateFunc: func(old, now any) {
					before, after := old.(*unstructured.Unstructured), now.(*unstructured.Unstructured)
					name := resource + " " + after.GetNamespace() + "/" + after.GetName()
					if before.GetUID() != after.GetUID() {
						note("%s became another object", name)
					}
					if newer, err := isNewer(before, after); !newer {
						note("%s went from %s back to %s: %v", name, before.GetResourceVersion(), after.GetResourceVersion(), err)
					}
					if was, is := readyOf(before), readyOf(after); was["status"] == string(metav1.ConditionTrue) && is["status"] != was["status"] {
						note("%s was ready, and then %v", name, is)
					}
				},
				DeleteFunc: func(object any) { note("%s: something was deleted: %v", resource, object) },
			})
			require.NoError(env.t, err)
		}
		factory.Start(ctx.Done())
		for resource, synced := range factory.WaitForCacheSync(ctx.Done()) {
			require.True(env.t, synced, resource)
		}
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(wrong)
	}
}

func isNewer(before, after *unstructured.Unstructured) (bool, error) {
	was, err := revisionOf(before)
	if err != nil {
		return false, err
	}
	is, err := revisionOf(after)
	return is >= was, err
}
