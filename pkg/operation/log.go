// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// maxEventMessage is the longest message of a provisioning event that is shown.
const maxEventMessage = 1024

// Log answers with the provisioning events of the allocation as they were observed last, the
// newest last. It asks the metal-api for nothing.
func (o *Operator) Log(ctx context.Context, t Target) (_ *infrastructure.MachineLog, err error) {
	defer o.observe(verbLog)(&err)
	var machine *metal.Machine
	m, err := o.look(ctx, t, refOf(t), func(_ context.Context, id string) (*metal.Machine, error) {
		var presence metal.Presence
		if machine, presence = o.opts.Facts.Machine(id); presence == metal.Unobserved {
			return nil, allocation.Refuse(http.StatusServiceUnavailable, 0, "machine %s was not observed since the server started: retry", id)
		}
		return machine, nil
	})
	if err != nil {
		return nil, err
	}
	return &infrastructure.MachineLog{ObjectMeta: m, Events: eventsOf(machine)}, nil
}

// eventsOf returns the events since the machine was allocated, the newest last: the metal-api
// keeps those of earlier allocations, too (docs/metal-api.md, Q26).
func eventsOf(m *metal.Machine) []infrastructure.MetalEvent {
	events := make([]infrastructure.MetalEvent, 0, len(m.Events))
	for _, e := range slices.Backward(m.Events) {
		if e.Time.Before(m.Allocation.Created) {
			continue
		}
		at := metav1.NewTime(e.Time)
		events = append(events, infrastructure.MetalEvent{
			Event: oneline.Sanitize(e.Event, maxEventMessage), Message: oneline.Sanitize(e.Message, maxEventMessage), Time: &at,
		})
	}
	return events
}
