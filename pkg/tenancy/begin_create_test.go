// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/warning"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/component-base/metrics/testutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

var msm = schema.GroupResource{Group: infrastructure.GroupName, Resource: "metalstackmachines"}

// warningRecorder keeps warnings.
type warningRecorder []string

func (r *warningRecorder) AddWarning(_, text string) { *r = append(*r, text) }

func TestBeginCreate_RefusalSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	c := startServer(t, newEnvironment(t), namespaceObject("plain", "1", ""), namespaceObject("team-a", "2", projectA), namespaceObject("zweitens", "3", projectA), namespaceObject("typo", "4", "TEAM"))
	done, err := c.BeginCreate(t.Context(), msm, "team-a", "node-1")
	require.NoError(t, err)
	done()
	for namespace, want := range map[string]string{
		"plain":    "is not bound to a metal-stack project: ask an administrator to bind it: kubectl label namespace plain " + infrastructure.ProjectLabel + "=<project id>",
		"typo":     `its label ` + infrastructure.ProjectLabel + ` is "TEAM", and must be the id of a metal-stack project, which is a UUID in lower case`,
		"zweitens": "the project " + projectA + ", which its label names, belongs to another namespace of this cluster",
	} {
		_, err := c.BeginCreate(t.Context(), msm, namespace, "node-1")
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, `metalstackmachines.infrastructure.cluster.x-k8s.io "node-1" is forbidden: the namespace "`+namespace+`"`)
		require.NotContains(t, err.Error(), "team-a")
	}
	_, err = c.BeginCreate(t.Context(), msm, "nowhere", "node-1")
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	require.ErrorContains(t, err, `namespaces "nowhere" not found`)
}

func TestBeginCreate_WaitsForTheWatchOfANewNamespace(t *testing.T) {
	t.Parallel()
	c := startServer(t, newEnvironment(t))
	require.NoError(t, c.api.Tracker().Add(namespaceObject("team-a", "7", projectA)))
	done, err := c.BeginCreate(t.Context(), msm, "team-a", "node-1")
	require.NoError(t, err)
	done()
}

func TestBeginCreate_RefusesInATerminatingNamespace(t *testing.T) {
	t.Parallel()
	going := namespaceObject("team-a", "1", projectA)
	now := metav1.Now()
	going.DeletionTimestamp, going.Finalizers = &now, []string{"kubernetes"}
	e := newEnvironment(t)
	e.setHasRecords("team-a", true)
	c := startServer(t, e, going)
	_, err := c.BeginCreate(t.Context(), msm, "team-a", "node-1")
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	assert.True(t, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), "by which controllers know it")
	assert.Equal(t, projectA, projectOf(c, "team-a"))
}

func TestBeginCreate_KeepsTheBindingUntilTheObjectIsCreated(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	b := e.reconcile(e.newServer())
	done, err := b.BeginCreate(t.Context(), msm, "team-a", "node-1")
	require.NoError(t, err)
	e.label("team-a", projectB)
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "team-a"))
	done()
	done() // once is enough
	e.reconcile(b)
	assert.Equal(t, projectB, projectOf(b, "team-a"))
}

func TestBeginCreate_WarnsWhenTheLabelHasChanged(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	b := e.reconcile(e.newServer())
	e.setHasRecords("team-a", true)
	e.label("team-a", projectC)
	e.reconcile(b)
	var warned warningRecorder
	done, err := b.BeginCreate(warning.WithWarningRecorder(t.Context(), &warned), msm, "team-a", "node-1")
	require.NoError(t, err, "what is there may need it")
	done()
	require.Len(t, warned, 1)
	assert.Contains(t, warned[0], `stays bound to the project `+projectA+`, although its label `+infrastructure.ProjectLabel+` is "`+projectC+`" now`)
}

func TestBeginCreate_IsUnavailableUntilTheNamespaceIsSynced(t *testing.T) {
	t.Parallel()
	c := startServer(t, newEnvironment(t), namespaceObject("team-a", "1", ""))
	// A change that no watch delivers.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	other := NewNamespaces(c.api, c.environment, nil)
	_, err := other.BeginCreate(ctx, msm, "team-a", "node-1")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
}

func TestBeginCreate_TimesItsReadOfTheNamespace(t *testing.T) {
	// Not in parallel: the counts are those of the process.
	RegisterMetrics()
	c := startServer(t, newEnvironment(t))
	reads := func(outcome string) uint64 {
		count, err := testutil.GetHistogramMetricCount(namespaceReads.WithLabelValues("get", outcome))
		require.NoError(t, err)
		return count
	}
	before := reads("not_found")
	_, err := c.BeginCreate(t.Context(), msm, "nowhere", "node-1")
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	assert.Equal(t, before+1, reads("not_found"))

	before = reads("error")
	c.api.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("unavailable")
	})
	_, err = c.BeginCreate(t.Context(), msm, "nowhere", "node-1")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	assert.Equal(t, before+1, reads("error"))
}
