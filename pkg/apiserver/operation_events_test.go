// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/operation"
)

func TestClusterEvents_AreOfTheObjectAndBounded(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	recorder := clusterEvents{client.EventsV1(), "metalstack-apiserver-pod", clocktesting.NewFakePassiveClock(now)}
	require.NoError(t, recorder.Record(t.Context(), operation.Event{
		Kind: "MetalStackMachine", Namespace: "team-a", Name: "node-1", UID: "u", ResourceVersion: "7", Warning: true,
		Reason: operation.ReasonPowerRequested, Action: "Cycle", Note: "a\nb" + strings.Repeat("x", 2000),
	}))
	list, err := client.EventsV1().Events("team-a").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	e := list.Items[0]
	assert.Empty(t, validation.IsDNS1123Subdomain(e.Name))
	assert.LessOrEqual(t, len(e.Note), 1024)
	assert.True(t, strings.HasPrefix(e.Note, "a bx"), e.Note)
	e.Note, e.Name, e.ManagedFields, e.TypeMeta = "", "", nil, metav1.TypeMeta{}
	assert.Equal(t, eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a"}, EventTime: metav1.NewMicroTime(now),
		ReportingController: "metalstack-apiserver", ReportingInstance: "metalstack-apiserver-pod",
		Regarding: corev1.ObjectReference{APIVersion: "infrastructure.cluster.x-k8s.io/v1alpha4", Kind: "MetalStackMachine", Namespace: "team-a", Name: "node-1", UID: "u", ResourceVersion: "7"},
		Type:      corev1.EventTypeWarning, Reason: "PowerRequested", Action: "Cycle",
	}, e)
}

func TestClusterEvents_FailureIsReturned(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	failure := errors.New("the namespace is being deleted")
	client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, failure })
	recorder := clusterEvents{client.EventsV1(), "pod", clocktesting.NewFakePassiveClock(time.Now())}
	require.ErrorIs(t, recorder.Record(t.Context(), operation.Event{Namespace: "team-a", Name: "node-1"}), failure)
}
