// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RemediationStrategyType is how a machine is remediated.
type RemediationStrategyType string

// RemediationReboot: the machine is switched off and on again, and keeps its metal.
const RemediationReboot RemediationStrategyType = "Reboot"

// RemediationPhase is the phase of a remediation.
type RemediationPhase string

// The phases of a remediation, in the order of an attempt.
const (
	// RemediationPoweringOff: the machine was asked to switch off, and is not seen off yet.
	RemediationPoweringOff RemediationPhase = "PoweringOff"
	// RemediationFencing: the machine is off, and the Node has the out-of-service taint
	// until its Pods and volumes are gone from it.
	RemediationFencing RemediationPhase = "Fencing"
	// RemediationPoweringOn: the machine is being switched on.
	RemediationPoweringOn RemediationPhase = "PoweringOn"
	// RemediationWaiting: the Node is awaited, until the timeout of the strategy.
	RemediationWaiting RemediationPhase = "Waiting"
	// RemediationSucceeded: the Node is ready again.
	RemediationSucceeded RemediationPhase = "Succeeded"
	// RemediationFailed: the Machine was handed back to its owner to be replaced.
	RemediationFailed RemediationPhase = "Failed"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediation is the remediation of one Machine, which has its name and owns it. A
// MachineHealthCheck of Cluster API creates it from a MetalStackRemediationTemplate, and
// deletes it when the Machine is healthy again. The machine is switched off, its Node is
// fenced, and it is switched on again; when the attempts are used up, the Machine is handed
// back to its owner to be replaced.
type MetalStackRemediation struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the strategy. It cannot be changed.
	// +optional
	Spec MetalStackRemediationSpec `json:"spec,omitempty,omitzero"`
	// status is how far the remediation is. It is written by the controller manager.
	// +optional
	Status MetalStackRemediationStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediationList is a list of MetalStackRemediation.
type MetalStackRemediationList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the remediations.
	Items []MetalStackRemediation `json:"items"`
}

// MetalStackRemediationSpec is how a Machine is remediated.
type MetalStackRemediationSpec struct {
	// strategy is how the Machine is remediated.
	// +optional
	Strategy RemediationStrategy `json:"strategy,omitempty,omitzero"`
}

// RemediationStrategy is how a Machine is remediated.
type RemediationStrategy struct {
	// type is `Reboot`, the default: the machine is switched off and on again.
	// +optional
	// +k8s:validation:maxLength=63
	Type RemediationStrategyType `json:"type,omitempty"`
	// retryLimit is how many attempts are made, from 1 to 10; 1 by default.
	// +optional
	RetryLimit int32 `json:"retryLimit,omitempty"`
	// timeout is how long one step of an attempt may take: until the machine is seen off, until
	// its Pods and volumes are gone, and until the Node is ready after the machine
	// was switched on. From 1m to 24h; 15m by default.
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// MetalStackRemediationStatus is how far a remediation is.
type MetalStackRemediationStatus struct {
	// phase is `PoweringOff`, `Fencing`, `PoweringOn` or `Waiting` during an attempt, and
	// `Succeeded` or `Failed` at the end.
	// +optional
	// +k8s:validation:maxLength=63
	Phase RemediationPhase `json:"phase,omitempty"`
	// attempt is the number of attempts that were begun.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`
	// phaseTime is when the phase began.
	// +optional
	PhaseTime *metav1.Time `json:"phaseTime,omitempty"`
	// machine is the machine that is remediated.
	// +optional
	Machine *RemediatedMachine `json:"machine,omitempty"`
	// poweredOff is true from before the machine is asked to switch off, until it is certain that
	// it was asked to switch on again, or that there is nothing to switch on.
	// +optional
	PoweredOff bool `json:"poweredOff,omitempty"`
	// fencedNode is the name of the Node that has the out-of-service taint because of this
	// remediation. It is set before the taint is, and removed after it was taken off.
	// +optional
	// +k8s:validation:maxLength=253
	FencedNode string `json:"fencedNode,omitempty"`
	// conditions are the observed conditions:
	//   - Remediated is True once the Node is ready again, and False until then and when the
	//     Machine was handed back; the reason and the message say why.
	//   - Paused is True while the controller manager does not reconcile the object.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RemediatedMachine is the metal of a remediation.
// +structType=atomic
type RemediatedMachine struct {
	// name of the MetalStackMachine.
	// +optional
	// +k8s:validation:maxLength=63
	Name string `json:"name,omitempty"`
	// allocationUUID is the allocation of its machine when the remediation began. With another
	// one, nothing is rebooted.
	// +optional
	// +k8s:validation:maxLength=64
	AllocationUUID string `json:"allocationUUID,omitempty"`
}

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediationTemplate is a template of MetalStackRemediations. A MachineHealthCheck of
// Cluster API references it in spec.remediation.templateRef. Its spec cannot be changed.
type MetalStackRemediationTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec holds the template. It cannot be changed.
	// +optional
	Spec MetalStackRemediationTemplateSpec `json:"spec,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediationTemplateList is a list of MetalStackRemediationTemplate.
type MetalStackRemediationTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the templates.
	Items []MetalStackRemediationTemplate `json:"items"`
}

// MetalStackRemediationTemplateSpec holds the template.
type MetalStackRemediationTemplateSpec struct {
	// template is the spec of remediations that are created from it.
	// +required
	Template MetalStackRemediationTemplateResource `json:"template,omitempty,omitzero"`
}

// MetalStackRemediationTemplateResource is the spec of a remediation.
type MetalStackRemediationTemplateResource struct {
	// metadata is copied to the remediation.
	// +optional
	ObjectMeta TemplateMeta `json:"metadata,omitempty,omitzero"`
	// spec is copied to the remediation.
	// +optional
	Spec MetalStackRemediationSpec `json:"spec,omitempty,omitzero"`
}
