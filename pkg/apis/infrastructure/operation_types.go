// SPDX-License-Identifier: Apache-2.0

package infrastructure

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
	PowerStateOn      PowerState = "On"
	PowerStateOff     PowerState = "Off"
	PowerStateUnknown PowerState = "Unknown"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachinePower is the body of the power subresource of a machine or firewall. A GET
// answers with the status, a POST asks for an action. The metal-api answers that a request was
// sent to the machine's controller (BMC), not that it was carried out: the object's condition
// PowerRequested and its status.metal show what happened. It is not stored.
type MachinePower struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MachinePowerSpec
	Status MachinePowerStatus
}

// MachinePowerSpec is a request for a power action.
type MachinePowerSpec struct {
	Action    PowerAction
	Reason    string
	RequestID string
}

// MachinePowerStatus is the power state of a machine.
type MachinePowerStatus struct {
	State        PowerState
	ObservedTime *metav1.Time
	BMCVersion   string
	BIOSVersion  string
}

// LEDState is whether the chassis LED of a machine is on.
type LEDState string

// The states of a chassis LED.
const (
	LEDOn  LEDState = "On"
	LEDOff LEDState = "Off"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineIdentify is the body of a POST to the identify subresource of a machine or
// firewall, which switches the chassis LED, so that the machine is found in the data centre.
// It is not stored.
type MachineIdentify struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec MachineIdentifySpec
}

// MachineIdentifySpec is a request for a chassis LED.
type MachineIdentifySpec struct {
	State  LEDState
	Reason string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineConsolePassword is the body of a POST to the consolepassword subresource of a
// machine or firewall, and its answer. The password is in the answer only: it is not stored,
// logged or audited. That it was read, by which user and why, is an Event.
type MachineConsolePassword struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MachineConsolePasswordSpec
	Status MachineConsolePasswordStatus
}

// MachineConsolePasswordSpec is a request for a console password.
type MachineConsolePasswordSpec struct {
	Reason string
}

// MachineConsolePasswordStatus is a console password.
type MachineConsolePasswordStatus struct {
	Password string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineLog is the answer of a GET of the log subresource of a machine or firewall: the
// provisioning events of its allocation that the metal-api keeps, the newest last. It is not
// stored.
type MachineLog struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Events []MetalEvent
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineReinstall is the body of a POST to the reinstall subresource of a machine or
// firewall: its disk is wiped, and an image installed. It keeps its name, its addresses and
// its user data, so a node of kubeadm boots with a token to join that has expired: it is a
// tool for people, not a way to update nodes. It is not stored.
type MachineReinstall struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MachineReinstallSpec
	Status MachineReinstallStatus
}

// MachineReinstallSpec is a request for a reinstallation.
type MachineReinstallSpec struct {
	Image  string
	Reason string
	Force  bool
}

// MachineReinstallStatus is what is installed.
type MachineReinstallStatus struct {
	Image string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MachineLock is the body of the lock subresource of a machine or firewall: metal-stack's own
// lock, with which the metal-api refuses to free the machine, whoever asks. A GET answers with
// the status, a POST locks, and a DELETE unlocks; its query parameter reason says why. It is
// not stored here.
type MachineLock struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MachineLockSpec
	Status MachineLockStatus
}

// MachineLockSpec is a request for a lock.
type MachineLockSpec struct {
	Reason string
}

// MachineLockStatus is the lock of a machine.
type MachineLockStatus struct {
	Locked bool
	Reason string
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
type MachineOperation struct {
	Action         string
	RequestID      string
	AllocationUUID string
	RequestTime    *metav1.MicroTime
	User           string
	Reason         string
	Image          string
	Outcome        MachineOperationOutcome
	Message        string
}
