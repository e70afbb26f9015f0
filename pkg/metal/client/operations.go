// SPDX-License-Identifier: Apache-2.0

package client

import "time"

// class groups operations by what an answer that is not understood means.
type class uint8

const (
	// classRead changes nothing: any failure leaves the facts as they were.
	classRead class = 1 << iota
	classAllocateMachine
	classAllocateNetwork
	classAllocateIP
	classFree
	classUpdateIP

	classAllocate = classAllocateMachine | classAllocateNetwork | classAllocateIP
	classWrite    = classAllocate | classFree | classUpdateIP
	classAny      = classRead | classWrite
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

	"allocateMachine":    {"machine allocate", classAllocateMachine, Timeouts.allocate, maxEntityBytes},
	"allocateFirewall":   {"firewall allocate", classAllocateMachine, Timeouts.allocate, maxEntityBytes},
	"allocateNetwork":    {"network allocate", classAllocateNetwork, Timeouts.allocate, maxEntityBytes},
	"allocateIP":         {"ip allocate", classAllocateIP, Timeouts.allocate, maxEntityBytes},
	"allocateSpecificIP": {"ip allocate", classAllocateIP, Timeouts.allocate, maxEntityBytes},
	"freeMachine":        {"machine free", classFree, Timeouts.free, maxEntityBytes},
	"freeNetwork":        {"network free", classFree, Timeouts.free, maxEntityBytes},
	"freeIP":             {"ip free", classFree, Timeouts.free, maxEntityBytes},
	"updateIP":           {"ip update", classUpdateIP, Timeouts.free, maxEntityBytes},
}

func (t Timeouts) get() time.Duration      { return t.Get }
func (t Timeouts) find() time.Duration     { return t.Find }
func (t Timeouts) list() time.Duration     { return t.List }
func (t Timeouts) allocate() time.Duration { return t.Allocate }
func (t Timeouts) free() time.Duration     { return t.Free }

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
	} {
		if *f.field == 0 {
			*f.field = f.def
		}
	}
	return t
}
