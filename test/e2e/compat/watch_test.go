// SPDX-License-Identifier: Apache-2.0

package compat_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

var templates = v1alpha4.SchemeGroupVersion.WithResource("metalstackmachinetemplates")

func (env *environment) newTemplate(t *testing.T, name string) {
	t.Helper()
	_, err := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4().MetalStackMachineTemplates(env.Namespace).Create(t.Context(), objects.MachineTemplate(name), metav1.CreateOptions{})
	require.NoError(t, err)
}

// watchListBeginsWithEverythingAndBookmark: the kube-apiserver passes the request on,
// whether it answers such ones for its own kinds or not.
func watchListBeginsWithEverythingAndBookmark(t *testing.T, env *environment) {
	env.newTemplate(t, "watched")
	for _, version := range cluster.Versions {
		client, err := dynamic.NewForConfig(env.Admin())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		events, err := client.Resource(version.WithResource(templates.Resource)).Namespace(env.Namespace).Watch(ctx, metav1.ListOptions{
			SendInitialEvents: ptr.To(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
			FieldSelector: "metadata.name=watched",
		})
		require.NoError(t, err)
		defer events.Stop()
		first, bookmark := <-events.ResultChan(), <-events.ResultChan()
		require.Equal(t, watch.Added, first.Type, "%v", first.Object)
		require.Equal(t, "watched", first.Object.(*unstructured.Unstructured).GetName())
		require.Equal(t, watch.Bookmark, bookmark.Type, "%v", bookmark.Object)
		end := bookmark.Object.(*unstructured.Unstructured)
		require.Equal(t, "true", end.GetAnnotations()[metav1.InitialEventsAnnotationKey])
		require.NotEmpty(t, end.GetResourceVersion())
	}
}

// withoutWatchList is how a client says that it wants lists.
type withoutWatchList struct{}

func (withoutWatchList) IsWatchListSemanticsUnSupported() bool { return true }

// informersWithAndWithoutWatchList: an informer is filled by one watch, or by a list and a
// watch; for our kinds and for the kube-apiserver's, whose older versions refuse the former,
// upon which informers list. The programs read the cluster by such informers.
func informersWithAndWithoutWatchList(t *testing.T, env *environment) {
	for _, resource := range []schema.GroupVersionResource{templates, corev1.SchemeGroupVersion.WithResource("configmaps")} {
		for _, watchList := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s_%t", resource.Resource, watchList), func(t *testing.T) {
				t.Parallel()
				client, err := dynamic.NewForConfig(env.Admin())
				require.NoError(t, err)
				in := client.Resource(resource).Namespace(env.Namespace)
				var lists atomic.Int32
				var says any
				if !watchList {
					says = withoutWatchList{}
				}
				source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
					ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
						lists.Add(1)
						return in.List(ctx, o)
					},
					WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return in.Watch(ctx, o) },
				}, says)
				informer := cache.NewSharedIndexInformer(source, &unstructured.Unstructured{}, 0, nil)
				go informer.RunWithContext(t.Context())
				require.True(t, cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced))
				name := fmt.Sprintf("later-%t", watchList)
				if resource == templates {
					env.newTemplate(t, name)
					assert.Equal(t, watchList, lists.Load() == 0, "%d lists", lists.Load())
				} else {
					_, err := env.Client().CoreV1().ConfigMaps(env.Namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
					require.NoError(t, err)
				}
				framework.Eventually(t, limit, func(context.Context) error {
					if _, found, err := informer.GetStore().GetByKey(env.Namespace + "/" + name); err != nil || !found {
						return fmt.Errorf("no %s in the informer (%v)", name, err)
					}
					return nil
				})
			})
		}
	}
}
