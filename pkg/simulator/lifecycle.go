// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// node is one server: what the database has of it, and what it is doing.
type node struct {
	id       string
	m        *machine // nil: only its events are known
	ec       *eventLog
	spec     Machine
	silenced bool
	// generation counts up when the machine's course changes, so that steps that
	// were planned before are dropped.
	generation uint64
	// crashes: the machine does not get through its next boot.
	crashes bool
	// netBoot: the server boots from the network, until an installation has ended.
	netBoot bool
	power   power
	encoded cache
}

// How long the steps of a machine's life take at Speed 1.
const (
	stepReclaim   = 10 * time.Second // from free to PXE Booting
	stepPrepare   = 20 * time.Second
	stepRegister  = 15 * time.Second
	stepWait      = 5 * time.Second
	stepInstall   = 3 * time.Second // from the allocation to Installing
	stepNewKernel = 65 * time.Second
	stepPhoneHome = 45 * time.Second
	stepReboot    = 60 * time.Second // of an installed machine
	stepCrashLoop = 30 * time.Second
)

func (s *Simulator) nodeFor(id string, t time.Time) *node {
	if n, ok := s.machines[id]; ok {
		if n.m == nil {
			n.m = emptyMachine(id, t)
		}
		return n
	}
	n := &node{id: id, m: emptyMachine(id, t)}
	s.machines[id] = n
	s.order = append(s.order, n)
	return n
}

func emptyMachine(id string, t time.Time) *machine {
	return &machine{
		id: id, created: stored(t), changed: stored(t),
		hardware: &wire.Hardware{Disks: []wire.BlockDevice{}, Nics: []wire.Nic{}},
	}
}

// after plans a step of a machine's life, unless nothing moves by itself.
// Steps vary by a fifth.
func (s *Simulator) after(n *node, now time.Time, d time.Duration, step func(now time.Time)) {
	if s.speed <= 0 {
		return
	}
	generation := n.generation
	vary := 0.8 + 0.4*s.rng.Float64()
	s.at(now.Add(time.Duration(float64(d)*vary/s.speed)), func(now time.Time) {
		if n.generation != generation || n.isQuiet() {
			return
		}
		step(now)
	})
}

// emit is an event of a machine that is planned by itself.
func (s *Simulator) emit(n *node, event, message string, now time.Time) {
	_ = s.event(n.id, event, message, now)
}

// boot plans the way from power on to Waiting, or to the installation when
// the machine has been allocated meanwhile.
func (s *Simulator) boot(n *node, now time.Time, in time.Duration) {
	n.generation++
	s.switchOn(n, now)
	s.after(n, now, in, func(now time.Time) {
		s.emit(n, eventPXEBooting, "machine sent extended dhcp request", now)
		s.after(n, now, stepPrepare, func(now time.Time) {
			s.emit(n, eventPreparing, "metal-hammer started", now)
			if n.crashes {
				s.after(n, now, stepCrashLoop, func(now time.Time) {
					s.emit(n, eventCrashed, "panic", now)
					s.boot(n, now, stepCrashLoop)
				})
				return
			}
			s.after(n, now, stepRegister, func(now time.Time) {
				s.emit(n, eventRegistering, "registering machine", now)
				if a := n.m.alloc; a != nil && (a.boot == nil || a.reinstall) {
					s.install(n, now)
					return
				}
				s.after(n, now, stepWait, func(now time.Time) { s.wait(n, now) })
			})
		})
	})
}

// wait is the machine's call that hangs until it is allocated: while it
// hangs the machine is in the pool.
func (s *Simulator) wait(n *node, now time.Time) {
	s.emit(n, eventWaiting, "waiting for allocation", now)
	s.startWaiting(n)
}

func (s *Simulator) startWaiting(n *node) {
	if n.m.alloc != nil || n.m.waiting {
		return
	}
	next := *n.m
	next.waiting = true
	_, _ = s.updateMachine(n.m, &next)
}

// noticed is the return of the call that hung: the waiting flag goes, and
// changed moves (207). This is what a free right after an allocate collides
// with (272).
func (s *Simulator) noticed(n *node, uuid string, now time.Time) {
	if n.m == nil || n.m.alloc == nil || n.m.alloc.uuid != uuid {
		return
	}
	if n.m.waiting {
		next := *n.m
		next.waiting = false
		_, _ = s.updateMachine(n.m, &next)
	}
	if e := n.ec.newest(); e == eventWaiting || e == eventRegistering {
		s.install(n, now)
	}
}

// install plans the way from the allocation to Phoned Home.
func (s *Simulator) install(n *node, now time.Time) {
	n.generation++
	s.after(n, now, stepInstall, func(now time.Time) {
		s.emit(n, eventInstalling, "start installation", now)
		s.after(n, now, stepNewKernel, func(now time.Time) {
			s.report(n)
			s.emit(n, eventBootingNewKernel, "", now)
			s.after(n, now, stepPhoneHome, func(now time.Time) {
				if !n.crashes {
					s.emit(n, eventPhonedHome, "", now)
				}
			})
		})
	})
}

// report is what the installer reports when it is done (213).
func (s *Simulator) report(n *node) {
	if n.m == nil || n.m.alloc == nil {
		return
	}
	disk := "/dev/sda"
	if len(n.m.hardware.Disks) > 0 {
		disk = n.m.hardware.Disks[0].Name
	}
	n.netBoot = false
	a := *n.m.alloc
	a.reinstall = false
	a.consolePassword = "console-" + a.uuid[:8]
	a.boot = &wire.BootInfo{
		ImageID: a.image, PrimaryDisk: disk, OSPartition: disk + "2", Initrd: "/boot/initrd.img",
		Cmdline: "console=ttyS0", Kernel: "/boot/vmlinuz", BootloaderID: "ubuntu",
	}
	next := *n.m
	next.alloc = &a
	_, _ = s.updateMachine(n.m, &next)
}

// reboot plans what a machine does after a power cycle. One that is marked for a reinstallation
// of which metal-core was not told boots what is installed.
func (s *Simulator) reboot(n *node, now time.Time) {
	n.generation++
	s.switchOn(n, now)
	from := n.power.nextBoot
	n.power.nextBoot = ""
	switch {
	case from == "BIOS":
	case from == "PXE", n.netBoot, n.m.alloc == nil, n.m.alloc.boot == nil:
		s.boot(n, now, stepReclaim)
	default:
		s.after(n, now, stepReboot, func(now time.Time) { s.emit(n, eventPhonedHome, "", now) })
	}
}
