// SPDX-License-Identifier: Apache-2.0

package controller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Reasons of Events, beside those of remediations, which are the reasons of the condition
// Remediated. What is waited for, and what holds a release up, is recorded
// under the reasons of the conditions Allocated, Deleting, FirewallControllerReady,
// FirewallReady, MetalAPIAccessReady and Paused, once for each change.
const (
	// EventAllocating: the API server was asked for metal.
	EventAllocating = "Allocating"
	// EventAllocated: the object holds metal; the note says which.
	EventAllocated = "Allocated"
	// EventAllocationRefused: there is none, in the metal-api's words.
	EventAllocationRefused = "AllocationRefused"
	// EventMetalAPIUnavailable: there is none, because the metal-api or one of its
	// backends does not answer.
	EventMetalAPIUnavailable = infrastructure.ReasonMetalAPIUnavailable
	// EventReleasing: the API server was asked to release the metal.
	EventReleasing = "Releasing"
	// EventReleased: the metal was released.
	EventReleased = "Released"
	// EventReleaseForced: the force-release annotation overrides the owner checks.
	EventReleaseForced = "ReleaseForced"
	// EventFirewallCreated: a cluster got a firewall; the note says why.
	EventFirewallCreated = "FirewallCreated"
	// EventFirewallAdopted: a cluster took a firewall that belonged to it and had
	// no controller.
	EventFirewallAdopted = "FirewallAdopted"
	// EventFirewallUpdated: fields of a firewall that can be changed while it runs are those
	// of its cluster's firewallSpec now; the note says which.
	EventFirewallUpdated = "FirewallUpdated"
	// EventFirewallRetired: a firewall of a cluster goes; the note says why.
	EventFirewallRetired = "FirewallRetired"
	// EventMetalAPIAccessRevoked: what spec.metalAPIAccess asked for was deleted.
	EventMetalAPIAccessRevoked = "MetalAPIAccessRevoked"
	// EventFirewallAccessRevoked: what firewallSpec.controller asked for was deleted.
	EventFirewallAccessRevoked = "FirewallAccessRevoked"
	// EventUserDataSet: spec.userData names the bootstrap secret of the Machine now.
	EventUserDataSet = "UserDataSet"
	// EventPartitionSet: spec.partition is the Machine's failure domain now.
	EventPartitionSet = "PartitionSet"
)

// Actions of Events, which is what was attempted.
const (
	actionAllocate = "Allocate"
	actionRelease  = "Release"
	actionRoll     = "RollFirewall"
	actionPrepare  = "Prepare"

	actionProvideAccess         = "ProvideMetalAPIAccess"
	actionProvideFirewallAccess = "ProvideFirewallAccess"
	actionRemediate             = "Remediate"
)

// recordEvent makes an Event about the object. Nothing secret may be in a note.
func (r *reconciliation) recordEvent(kind, reason, action, note string) {
	r.recorder.Eventf(r.obj, nil, kind, reason, action, "%s", oneline.Sanitize(note, oneline.MaxNote))
}

func (r *reconciliation) recordNormal(reason, action, note string) {
	r.recordEvent(corev1.EventTypeNormal, reason, action, note)
}

func (r *reconciliation) recordWarning(reason, action, note string) {
	r.recordEvent(corev1.EventTypeWarning, reason, action, note)
}

// noEvents is for a server without Events; everything is in the log, too.
type noEvents struct{}

var _ events.EventRecorder = noEvents{}

// Eventf implements events.EventRecorder.
func (noEvents) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {}
