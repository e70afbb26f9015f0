// Code generated from ../v1alpha4/operation_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PowerAction is what a power request asks the controller of a machine (BMC) to do.
type PowerAction string

// The power actions.
const (
	// PowerOn switches the machine on.
	PowerOn PowerAction = "On"
	// PowerOff switches the machine off at once, without a shutdown of its operating system.
	PowerOff PowerAction = "Off"
	// PowerReset resets the machine, which stays powered.
	PowerReset PowerAction = "Reset"
	// PowerCycle switches the machine off, and on again.
	PowerCycle PowerAction = "Cycle"
	// PowerBootDisk makes the next boots start from the disk.
	PowerBootDisk PowerAction = "BootDisk"
	// PowerBootPXE makes the next boot start from the network, which wipes the disks of a
	// machine that is allocated, and installs its image. It needs the right to reinstall.
	PowerBootPXE PowerAction = "BootPXE"
	// PowerBootBIOS makes the next boot end in the firmware's setup.
	PowerBootBIOS PowerAction = "BootBIOS"
)

// PowerState is whether a machine has power.
type PowerState string

// The power states.
const (
	// PowerStateOn: the machine has power.
	PowerStateOn PowerState = "On"
	// PowerStateOff: the machine is switched off.
	PowerStateOff PowerState = "Off"
	// PowerStateUnknown: the machine's controller (BMC) has not reported a state.
	PowerStateUnknown PowerState = "Unknown"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachinePower is the body of the power subresource of a machine or firewall. A GET
// answers with the status, a POST asks for an action. The metal-api answers that a request was
// sent to the machine's controller (BMC), not that it was carried out: the object's condition
// PowerRequested and its status.metal show what happened. It is not stored.
type MachinePower struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is that of the machine or
	// firewall, or omitted; with a uid, the request is refused if the object has another.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request.
	// +optional
	Spec MachinePowerSpec `json:"spec,omitempty,omitzero"`
	// status is the power state, as the machine's controller reported it last.
	// +optional
	Status MachinePowerStatus `json:"status,omitempty,omitzero"`
}

// MachinePowerSpec is a request for a power action.
type MachinePowerSpec struct {
	// action is `On`, `Off`, `Reset`, `Cycle`, `BootDisk`, `BootPXE` or `BootBIOS`. Off,
	// Reset and Cycle do not shut the operating system down. With BootPXE the next boot is from
	// the network, which wipes the disks and installs the image of the allocation: it needs a
	// reason and the right to create the subresource `reinstall`, and is refused for a machine of
	// a Machine of Cluster API unless it is marked for a reinstallation.
	// +required
	Action PowerAction `json:"action,omitempty"`
	// reason is why, in one line. It is part of the Event and of the object's status. BootPXE
	// needs one.
	// +optional
	// +k8s:validation:maxLength=256
	Reason string `json:"reason,omitempty"`
	// requestID makes a request that is repeated with the same id one request, for as long as
	// no other was made. Without it, the same action of an object within ten seconds of the end
	// of the last call is one request. It is chosen by the client. Of a discovered machine,
	// which has no record, it is remembered for ten minutes at most, until the server restarts.
	// +optional
	// +k8s:validation:maxLength=128
	RequestID string `json:"requestID,omitempty"`
}

// MachinePowerStatus is the power state of a machine.
type MachinePowerStatus struct {
	// state is `On`, `Off`, or `Unknown` if the machine's controller has not reported one.
	// +optional
	State PowerState `json:"state,omitempty"`
	// observedTime is when the machine's controller reported it last. It does so every few
	// minutes, so the state can be older than the last request.
	// +optional
	ObservedTime *metav1.Time `json:"observedTime,omitempty"`
	// bmcVersion is the firmware version of the machine's controller.
	// +optional
	BMCVersion string `json:"bmcVersion,omitempty"`
	// biosVersion is the version of the machine's firmware.
	// +optional
	BIOSVersion string `json:"biosVersion,omitempty"`
}

// LEDState is whether the chassis LED of a machine is on.
type LEDState string

// The states of a chassis LED.
const (
	// LEDOn: the LED is on.
	LEDOn LEDState = "On"
	// LEDOff: the LED is off.
	LEDOff LEDState = "Off"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineIdentify is the body of a POST to the identify subresource of a machine or
// firewall, which switches the chassis LED, so that the machine is found in the data centre.
// It is not stored.
type MachineIdentify struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request.
	// +required
	Spec MachineIdentifySpec `json:"spec,omitempty,omitzero"`
}

// MachineIdentifySpec is a request for a chassis LED.
type MachineIdentifySpec struct {
	// state is `On` or `Off`.
	// +required
	State LEDState `json:"state,omitempty"`
	// reason is why, in one line. It becomes the description of the LED in metal-stack.
	// +optional
	// +k8s:validation:maxLength=256
	Reason string `json:"reason,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineConsolePassword is the body of a POST to the consolepassword subresource of a
// machine or firewall, and its answer. The password is in the answer only: it is not stored,
// logged or audited. That it was read, by which user and why, is an Event.
type MachineConsolePassword struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request.
	// +required
	Spec MachineConsolePasswordSpec `json:"spec,omitempty,omitzero"`
	// status is the answer.
	// +optional
	Status MachineConsolePasswordStatus `json:"status,omitempty,omitzero"`
}

// MachineConsolePasswordSpec is a request for a console password.
type MachineConsolePasswordSpec struct {
	// reason is why the password is needed, in one line. The metal-api gets it, too.
	// +required
	// +k8s:validation:maxLength=256
	Reason string `json:"reason,omitempty"`
}

// MachineConsolePasswordStatus is a console password.
type MachineConsolePasswordStatus struct {
	// password of the user `metal` on the machine's serial console.
	// +optional
	Password string `json:"password,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineLog is the answer of a GET of the log subresource of a machine or firewall: the
// provisioning events of its allocation that the metal-api keeps, the newest last. It is not
// stored.
type MachineLog struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata: name, namespace and uid of the machine or
	// firewall.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// events are the provisioning events, the newest last.
	// +optional
	// +listType=atomic
	Events []MetalEvent `json:"events"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineReinstall is the body of a POST to the reinstall subresource of a machine or
// firewall: its disk is wiped, and an image installed. It keeps its name, its addresses and
// its user data, so a node of kubeadm boots with a token to join that has expired: it is a
// tool for people, not a way to update nodes. It is not stored.
type MachineReinstall struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. With a uid, the request is refused if the
	// object has another.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request.
	// +required
	Spec MachineReinstallSpec `json:"spec,omitempty,omitzero"`
	// status is the answer.
	// +optional
	Status MachineReinstallStatus `json:"status,omitempty,omitzero"`
}

// MachineReinstallSpec is a request for a reinstallation.
type MachineReinstallSpec struct {
	// image is an image id, or an alias, which is resolved to the newest image that it stands
	// for. The image must have the feature of the object's kind, must not have expired, and
	// must be one that the machine's file system layout is for.
	// +required
	// +k8s:validation:maxLength=253
	Image string `json:"image,omitempty"`
	// reason is why, in one line.
	// +required
	// +k8s:validation:maxLength=256
	Reason string `json:"reason,omitempty"`
	// force allows it for a machine of a Machine of Cluster API, which is refused otherwise:
	// its user data are used again, with which a node can seldom join.
	// +optional
	Force bool `json:"force,omitempty"`
}

// MachineReinstallStatus is what is installed.
type MachineReinstallStatus struct {
	// image is the id of the image that spec.image stands for.
	// +optional
	Image string `json:"image,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineLock is the body of the lock subresource of a machine or firewall: metal-stack's own
// lock, with which the metal-api refuses to free the machine, whoever asks. A GET answers with
// the status, a POST locks, and a DELETE unlocks; its query parameter reason says why. It is
// not stored here.
type MachineLock struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request.
	// +optional
	Spec MachineLockSpec `json:"spec,omitempty,omitzero"`
	// status is the lock in the metal-api.
	// +optional
	Status MachineLockStatus `json:"status,omitempty,omitzero"`
}

// MachineLockSpec is a request for a lock.
type MachineLockSpec struct {
	// reason is why, in one line. It becomes the description of the machine's state in
	// metal-stack.
	// +required
	// +k8s:validation:maxLength=256
	Reason string `json:"reason,omitempty"`
}

// MachineLockStatus is the lock of a machine.
type MachineLockStatus struct {
	// locked is true while the machine is locked.
	// +optional
	Locked bool `json:"locked"`
	// reason is the description of the machine's state in metal-stack.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// MachineOperationOutcome is what is known of the call of a power action or a reinstallation.
type MachineOperationOutcome string

// The outcomes of calls.
const (
	// OperationRequested: the call is about to be made, or was made and its outcome was not
	// recorded.
	OperationRequested MachineOperationOutcome = "Requested"
	// OperationSent: the metal-api sent it to the machine's controller.
	OperationSent MachineOperationOutcome = "Sent"
	// OperationUncertain: the metal-api did not say whether it sent it.
	OperationUncertain MachineOperationOutcome = "Uncertain"
	// OperationRefused: the metal-api refused it.
	OperationRefused MachineOperationOutcome = "Refused"
)

// OperationReinstall is the action of an operation that is a reinstallation; the others are
// power actions.
const OperationReinstall = "Reinstall"

// MachineOperation is the API server's record of the power action or reinstallation that was
// requested last.
// +structType=atomic
type MachineOperation struct {
	// action is a power action, or `Reinstall`.
	// +optional
	Action string `json:"action,omitempty"`
	// requestID is that of the request.
	// +optional
	// +k8s:validation:maxLength=128
	RequestID string `json:"requestID,omitempty"`
	// allocationUUID is the allocation of the machine for which it was requested.
	// +optional
	// +k8s:validation:maxLength=64
	AllocationUUID string `json:"allocationUUID,omitempty"`
	// requestTime is when it was requested.
	// +optional
	RequestTime *metav1.MicroTime `json:"requestTime,omitempty"`
	// user is the name of the user who requested it.
	// +optional
	// +k8s:validation:maxLength=1024
	User string `json:"user,omitempty"`
	// reason is why it was requested.
	// +optional
	// +k8s:validation:maxLength=256
	Reason string `json:"reason,omitempty"`
	// image is the id of the image of a reinstallation.
	// +optional
	// +k8s:validation:maxLength=253
	Image string `json:"image,omitempty"`
	// outcome is what is known of the call: `Requested` (it is about to be made, or its outcome
	// was not recorded), `Sent`, `Uncertain` or `Refused`.
	// +optional
	Outcome MachineOperationOutcome `json:"outcome,omitempty"`
	// message has the metal-api's words if the outcome is `Uncertain` or `Refused`.
	// +optional
	// +k8s:validation:maxLength=2048
	Message string `json:"message,omitempty"`
}
