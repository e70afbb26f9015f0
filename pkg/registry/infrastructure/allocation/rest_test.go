// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

type node = *infrastructure.MetalStackMachine

// oneObject is a resource with one object.
type oneObject struct{ obj node }

func (r oneObject) Get(context.Context, string, string) (node, error) { return r.obj, nil }

func subresource(operations Operations[node]) *REST[node] {
	operations.WithDryRun = allocation.WithDryRun
	return &REST[node]{
		resource: infrastructure.Resource("metalstackmachines"), operations: operations,
		objects: oneObject{obj: &infrastructure.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "u", ResourceVersion: "7"}}},
	}
}

// never fails the test if it is called.
func never(t *testing.T) Operations[node] {
	return Operations[node]{
		Allocate: func(context.Context, string, string, *infrastructure.Allocation) (node, error) {
			t.Error("allocated")
			return nil, nil
		},
		Release: func(context.Context, string, string, types.UID) (node, error) {
			t.Error("released")
			return nil, nil
		},
	}
}

var dryRun = []string{metav1.DryRunAll}

func TestREST_DryRunChangesNoMetal(t *testing.T) {
	t.Parallel()
	// The operations make their checks, and know that it is one.
	r := subresource(Operations[node]{
		Allocate: func(ctx context.Context, namespace, name string, _ *infrastructure.Allocation) (node, error) {
			assert.True(t, allocation.IsDryRun(ctx))
			return subresource(Operations[node]{}).objects.Get(ctx, namespace, name)
		},
		Release: func(ctx context.Context, namespace, name string, _ types.UID) (node, error) {
			assert.True(t, allocation.IsDryRun(ctx))
			return subresource(Operations[node]{}).objects.Get(ctx, namespace, name)
		},
	})
	ctx := request.WithNamespace(context.Background(), "team-a")
	obj, err := r.Create(ctx, "node-1", &infrastructure.Allocation{}, nil, &metav1.CreateOptions{DryRun: dryRun})
	require.NoError(t, err)
	assert.Equal(t, "node-1", obj.(node).Name)
	obj, _, err = r.Delete(ctx, "node-1", nil, &metav1.DeleteOptions{DryRun: dryRun})
	require.NoError(t, err)
	assert.Equal(t, "node-1", obj.(node).Name)
}

func TestREST_DeleteChecksPreconditionsFirst(t *testing.T) {
	t.Parallel()
	r := subresource(never(t))
	uid, version := types.UID("other"), "6"
	for _, p := range []*metav1.Preconditions{{UID: &uid}, {ResourceVersion: &version}} {
		_, _, err := r.Delete(request.WithNamespace(context.Background(), "team-a"), "node-1", nil, &metav1.DeleteOptions{Preconditions: p})
		assert.True(t, apierrors.IsConflict(err), "%v", err)
	}
}

func TestREST_CreateRefusesBodyOfAnotherName(t *testing.T) {
	t.Parallel()
	_, err := subresource(never(t)).Create(context.Background(), "node-1", &infrastructure.Allocation{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}}, nil, &metav1.CreateOptions{})
	assert.True(t, apierrors.IsInvalid(err), "%v", err)
}

func TestREST_AnswersBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := subresource(Operations[node]{Allocate: func(ctx context.Context, _, _ string, _ *infrastructure.Allocation) (node, error) {
			<-ctx.Done()
			return nil, apierrors.NewTimeoutError("goes on in the background", 1)
		}})
		ctx, cancel := context.WithTimeout(request.WithNamespace(t.Context(), "team-a"), registry.DeadlineMargin+50*time.Millisecond)
		defer cancel()
		_, err := r.Create(ctx, "node-1", &infrastructure.Allocation{}, nil, &metav1.CreateOptions{})
		assert.True(t, apierrors.IsTimeout(err), "%v", err)
		assert.NoError(t, ctx.Err(), "there is time left to send it")
	})
}
