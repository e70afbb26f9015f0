// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"context"
	"time"
)

// Operator operates machines that are allocated. Its calls are sent to the machine's controller
// (BMC) by a queue: an answer says that a request was sent, not that it was carried out. They end
// like those of Writer.
type Operator interface {
	// RequestPower sends a power action.
	RequestPower(ctx context.Context, id string, action PowerAction) error
	// PowerState reads what the machine's controller reported last.
	PowerState(ctx context.Context, id string) (*PowerState, error)
	// SetLED switches the chassis LED; the description replaces that of the LED.
	SetLED(ctx context.Context, id string, on bool, description string) error
	// ConsolePassword reads the password of the serial console, which is empty until the machine
	// was installed. It is in no error.
	ConsolePassword(ctx context.Context, id, reason string) (string, error)
	// Layout reads the file system layout that the machine was allocated with.
	Layout(ctx context.Context, id string) (*Layout, error)
	// Reinstall marks the machine for an installation of the image, whose id is exact, and
	// sends a request to reboot. When it is Uncertain, the machine may be marked without the
	// reboot.
	Reinstall(ctx context.Context, id, image, description string) (*Machine, error)
	// SetState sets the state: StateLocked, StateReserved, or StateAvailable, which takes
	// either away. The first two need a description.
	SetState(ctx context.Context, id, state, description string) (*Machine, error)
}

// PowerAction is what a machine's controller is asked to do.
type PowerAction string

// The power actions, as the paths of the metal-api name them.
const (
	PowerOn       PowerAction = "on"
	PowerOff      PowerAction = "off"
	PowerReset    PowerAction = "reset"
	PowerCycle    PowerAction = "cycle"
	PowerBootDisk PowerAction = "disk"
	PowerBootPXE  PowerAction = "pxe"
	PowerBootBIOS PowerAction = "bios"
)

// The states of a machine.
const (
	StateAvailable = ""
	StateReserved  = "RESERVED"
	StateLocked    = "LOCKED"
)

// OperateTimeout is how long a call of an Operator may take. The metal-api hands what it
// sends to a queue, and waits for nothing.
const OperateTimeout = 20 * time.Second

// PowerState is what a machine's controller reported last. The metal-api's answer has its
// user and password, too, which are not read.
type PowerState struct {
	// Machine is the machine as the same answer shows it.
	Machine *Machine
	// State is the metal-api's: ON, OFF, or empty.
	State string
	// Time is when it was reported.
	Time        time.Time
	BMCVersion  string
	BIOSVersion string
}
