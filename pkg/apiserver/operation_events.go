// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedevents "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/tools/record/util"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/operation"
)

// EventSource is the reporting controller of the server's Events.
const EventSource = "metalstack-apiserver"

// clusterEvents records operations as Events on the objects, before it returns: some
// operations are not done without one. An event recorder of client-go would not wait.
type clusterEvents struct {
	client   typedevents.EventsV1Interface
	instance string
	clock    clock.PassiveClock
}

var _ operation.Recorder = clusterEvents{}

// Record implements operation.Recorder.
func (r clusterEvents) Record(ctx context.Context, e operation.Event) error {
	now := r.clock.Now()
	kind := corev1.EventTypeNormal
	if e.Warning {
		kind = corev1.EventTypeWarning
	}
	_, err := r.client.Events(e.Namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: util.GenerateEventName(e.Name, now.UnixNano()), Namespace: e.Namespace},
		EventTime:  metav1.NewMicroTime(now), ReportingController: EventSource, ReportingInstance: r.instance,
		Regarding: corev1.ObjectReference{
			APIVersion: scheme.StorageVersion.String(), Kind: e.Kind, Namespace: e.Namespace, Name: e.Name,
			UID: e.UID, ResourceVersion: e.ResourceVersion,
		},
		Type: kind, Reason: e.Reason, Action: e.Action, Note: oneline.Sanitize(e.Note, oneline.MaxNote),
	}, metav1.CreateOptions{})
	return err
}

// loggedEvents records operations in the log of a server without a cluster, which has no
// Events.
type loggedEvents struct{}

var _ operation.Recorder = loggedEvents{}

// Record implements operation.Recorder.
func (loggedEvents) Record(ctx context.Context, e operation.Event) error {
	klog.FromContext(ctx).Info("Machine was operated", "reason", e.Reason, "kind", e.Kind, "namespace", e.Namespace, "name", e.Name,
		"uid", e.UID, "note", oneline.Sanitize(e.Note, oneline.MaxNote))
	return nil
}
