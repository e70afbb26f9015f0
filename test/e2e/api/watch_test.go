// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/generated/informers/externalversions"
)

func TestWatch_ResumesWithoutLoss(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	list, err := machines.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for i := range 3 {
		_, err := machines.Create(ctx, machine(fmt.Sprintf("node-%d", i)), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	first, err := machines.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	require.NoError(t, err)
	zero := next(t, first)
	first.Stop()
	require.Equal(t, watch.Added, zero.Type)
	require.Equal(t, "node-0", zero.Object.(*machineT).Name)

	second, err := machines.Watch(ctx, metav1.ListOptions{ResourceVersion: zero.Object.(*machineT).ResourceVersion})
	require.NoError(t, err)
	defer second.Stop()
	require.Equal(t, "node-1", next(t, second).Object.(*machineT).Name)
	require.Equal(t, "node-2", next(t, second).Object.(*machineT).Name)
}

func TestWatchList_BeginsWithEverythingAndBookmark(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	for i := range 2 {
		_, err := machines.Create(ctx, machine(fmt.Sprintf("node-%d", i)), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	yes := true
	events, err := machines.Watch(ctx, metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	require.NoError(t, err)
	defer events.Stop()
	require.Equal(t, "node-0", next(t, events).Object.(*machineT).Name)
	require.Equal(t, "node-1", next(t, events).Object.(*machineT).Name)
	mark := next(t, events)
	require.Equal(t, watch.Bookmark, mark.Type)
	require.Equal(t, "true", mark.Object.(*machineT).Annotations[metav1.InitialEventsAnnotationKey])
}

func TestWatch_ExpiresAcrossRestart(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	before, err := env.machines(teamA).Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)

	env.restart(t)

	after, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, before.UID, after.UID)
	require.Equal(t, before.Spec, after.Spec)
	require.GreaterOrEqual(t, revision(t, after), revision(t, before), "revisions never go back")
	events, err := env.machines(teamA).Watch(ctx, metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if err == nil {
		defer events.Stop()
		err = apierrors.FromObject(next(t, events).Object)
	}
	require.True(t, apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "%v", err)
	updated, err := env.machines(teamA).Patch(ctx, "node-1", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.Greater(t, revision(t, updated), revision(t, before))
}

func TestInformer_StaysTrueAcrossRestart(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	for i := range 5 {
		_, err := machines.Create(ctx, machine(fmt.Sprintf("node-%d", i)), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	factory := externalversions.NewSharedInformerFactory(env.client, 0)
	informer := factory.Infrastructure().V1alpha4().MetalStackMachines().Informer()
	deleted := make(chan string, 100)
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		key, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
		deleted <- key
	}})
	require.NoError(t, err)
	factory.Start(ctx.Done())
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))
	require.Len(t, informer.GetStore().List(), 5)

	env.restart(t)

	_, err = env.machines(teamA).Create(ctx, machine("node-5"), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, there, _ := informer.GetStore().GetByKey(teamA + "/node-5")
		return there
	}, time.Minute, 10*time.Millisecond)
	require.Len(t, informer.GetStore().List(), 6)
	require.Empty(t, deleted, "no object flaps")
}
