// SPDX-License-Identifier: Apache-2.0

package client

import "time"

// class groups operations by what an answer that is not understood means.
type class uint16

const (
	// classRead changes nothing: any failure leaves the facts as they were.
	classRead class = 1 << iota
	// classReadSecret is a read whose answer has a secret: errors say nothing of it.
	classReadSecret
	classAllocateMachine
	classAllocateNetwork
	classAllocateIP
	classFree
	classUpdateIP
	// classPower sends a request to a machine's controller.
	classPower
	classReinstall
	classState

	classReads    = classRead | classReadSecret
	classAllocate = classAllocateMachine | classAllocateNetwork | classAllocateIP
	classOperate  = classPower | classReinstall | classState
	classWrite    = classAllocate | classFree | classUpdateIP | classOperate
	classAny      = classReads | classWrite
)

// operation is one call of the metal-api that the client makes.
type operation struct {
	// name is what errors and metrics say.
	name    string
	class   class
	timeout func(Timeouts) time.Duration
	// limit is the most bytes that an answer may have.
	limit int64
}

// Limits of answers: a machine is 8 kB, a firewall 9.6 (docs/metal-api.md, Q14); a
// list of 50,000 machines is 400 MB.
const (
	maxEntityBytes = 4 << 20
	maxListBytes   = 512 << 20
	// maxErrorBytes is how much of an error's body is read; messages are shown to
	// people up to metal.MaxMessage.
	maxErrorBytes = 64 << 10
)

// operations by the id that the swagger of the metal-api gives them. What is
// not in this table is never called.
var operations = map[string]operation{
	"findMachine":    {"machine get", classRead, Timeouts.get, maxEntityBytes},
	"findMachines":   {"machine find", classRead, Timeouts.find, maxListBytes},
	"listMachines":   {"machine list", classRead, Timeouts.list, maxListBytes},
	"findNetwork":    {"network get", classRead, Timeouts.get, maxEntityBytes},
	"findNetworks":   {"network find", classRead, Timeouts.find, maxListBytes},
	"listNetworks":   {"network list", classRead, Timeouts.list, maxListBytes},
	"findIP":         {"ip get", classRead, Timeouts.get, maxEntityBytes},
	"findIPs":        {"ip find", classRead, Timeouts.find, maxListBytes},
	"listSizes":      {"size list", classRead, Timeouts.find, maxListBytes},
	"listImages":     {"image list", classRead, Timeouts.find, maxListBytes},
	"listPartitions": {"partition list", classRead, Timeouts.find, maxListBytes},
	"findProject":    {"project get", classRead, Timeouts.get, maxEntityBytes},
	"listProjects":   {"project list", classRead, Timeouts.find, maxListBytes},

	"listSizeReservations":     {"size reservation list", classRead, Timeouts.find, maxListBytes},
	"listSizeImageConstraints": {"size image constraint list", classRead, Timeouts.find, maxListBytes},
	"listFilesystemLayouts":    {"filesystem layout list", classRead, Timeouts.find, maxListBytes},

	"allocateMachine":    {"machine allocate", classAllocateMachine, Timeouts.allocate, maxEntityBytes},
	"allocateFirewall":   {"firewall allocate", classAllocateMachine, Timeouts.allocate, maxEntityBytes},
	"allocateNetwork":    {"network allocate", classAllocateNetwork, Timeouts.allocate, maxEntityBytes},
	"allocateIP":         {"ip allocate", classAllocateIP, Timeouts.allocate, maxEntityBytes},
	"allocateSpecificIP": {"ip allocate", classAllocateIP, Timeouts.allocate, maxEntityBytes},
	"freeMachine":        {"machine free", classFree, Timeouts.free, maxEntityBytes},
	"freeNetwork":        {"network free", classFree, Timeouts.free, maxEntityBytes},
	"freeIP":             {"ip free", classFree, Timeouts.free, maxEntityBytes},
	"updateIP":           {"ip update", classUpdateIP, Timeouts.free, maxEntityBytes},

	"findIPMIMachine":           {"machine power state get", classReadSecret, Timeouts.get, maxEntityBytes},
	"getMachineConsolePassword": {"machine console password get", classReadSecret, Timeouts.operate, maxEntityBytes},
	"machineOn":                 {"machine power on", classPower, Timeouts.operate, maxEntityBytes},
	"machineOff":                {"machine power off", classPower, Timeouts.operate, maxEntityBytes},
	"machineReset":              {"machine power reset", classPower, Timeouts.operate, maxEntityBytes},
	"machineCycle":              {"machine power cycle", classPower, Timeouts.operate, maxEntityBytes},
	"machineDisk":               {"machine power disk", classPower, Timeouts.operate, maxEntityBytes},
	"machinePxe":                {"machine power pxe", classPower, Timeouts.operate, maxEntityBytes},
	"machineBios":               {"machine power bios", classPower, Timeouts.operate, maxEntityBytes},
	"chassisIdentifyLEDOn":      {"machine led on", classPower, Timeouts.operate, maxEntityBytes},
	"chassisIdentifyLEDOff":     {"machine led off", classPower, Timeouts.operate, maxEntityBytes},
	"reinstallMachine":          {"machine reinstall", classReinstall, Timeouts.operate, maxEntityBytes},
	"setMachineState":           {"machine state set", classState, Timeouts.operate, maxEntityBytes},
}

func (t Timeouts) get() time.Duration      { return t.Get }
func (t Timeouts) find() time.Duration     { return t.Find }
func (t Timeouts) list() time.Duration     { return t.List }
func (t Timeouts) allocate() time.Duration { return t.Allocate }
func (t Timeouts) free() time.Duration     { return t.Free }
func (t Timeouts) operate() time.Duration  { return t.Operate }

// orDefault fills in what is zero.
func (t Timeouts) orDefault() Timeouts {
	for _, f := range []struct {
		field *time.Duration
		def   time.Duration
	}{
		{&t.Get, DefaultTimeouts.Get},
		{&t.Find, DefaultTimeouts.Find},
		{&t.List, DefaultTimeouts.List},
		{&t.Allocate, DefaultTimeouts.Allocate},
		{&t.Free, DefaultTimeouts.Free},
		{&t.Operate, DefaultTimeouts.Operate},
	} {
		if *f.field == 0 {
			*f.field = f.def
		}
	}
	return t
}
