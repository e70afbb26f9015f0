// SPDX-License-Identifier: Apache-2.0

package infrastructure

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

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediation is the remediation of one Machine, which has its name and owns it. A
// MachineHealthCheck of Cluster API creates it from a MetalStackRemediationTemplate, and
// deletes it when the Machine is healthy again. The machine is switched off, its Node is
// fenced, and it is switched on again; when the attempts are used up, the Machine is handed
// back to its owner to be replaced.
type MetalStackRemediation struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackRemediationSpec
	Status MetalStackRemediationStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediationList is a list of MetalStackRemediation.
type MetalStackRemediationList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackRemediation
}

// MetalStackRemediationSpec is how a Machine is remediated.
type MetalStackRemediationSpec struct {
	Strategy RemediationStrategy
}

// RemediationStrategy is how a Machine is remediated.
type RemediationStrategy struct {
	Type       RemediationStrategyType
	RetryLimit int32
	Timeout    *metav1.Duration
}

// MetalStackRemediationStatus is how far a remediation is.
type MetalStackRemediationStatus struct {
	Phase      RemediationPhase
	Attempt    int32
	PhaseTime  *metav1.Time
	Machine    *RemediatedMachine
	PoweredOff bool
	FencedNode string
	Conditions []metav1.Condition
}

// RemediatedMachine is the metal of a remediation.
type RemediatedMachine struct {
	Name           string
	AllocationUUID string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediationTemplate is a template of MetalStackRemediations. A MachineHealthCheck of
// Cluster API references it in spec.remediation.templateRef. Its spec cannot be changed.
type MetalStackRemediationTemplate struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec MetalStackRemediationTemplateSpec
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackRemediationTemplateList is a list of MetalStackRemediationTemplate.
type MetalStackRemediationTemplateList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackRemediationTemplate
}

// MetalStackRemediationTemplateSpec holds the template.
type MetalStackRemediationTemplateSpec struct {
	Template MetalStackRemediationTemplateResource
}

// MetalStackRemediationTemplateResource is the spec of a remediation.
type MetalStackRemediationTemplateResource struct {
	ObjectMeta TemplateMeta
	Spec       MetalStackRemediationSpec
}
