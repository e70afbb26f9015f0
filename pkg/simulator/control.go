// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// AllocateRequest is what AllocateFor allocates.
type AllocateRequest struct {
	Project, Name, Hostname, Size, Partition string
	// Image is MachineImage or FirewallImage when empty.
	Image string
	// ID is a machine to take; empty: any waiting one of Size.
	ID string
	// Networks are network ids; the addresses come from them.
	Networks []string
	IPs      []string
	Tags     []string
	UserData string
	Firewall bool
}

// with does something to a machine under the lock.
func (s *Simulator) with(id string, do func(n *node) error) error {
	s.lock()
	defer s.unlock()
	n, ok := s.machines[id]
	if !ok || n.m == nil {
		return fmt.Errorf("no machine %q in the data centre", id)
	}
	return do(n)
}

// SendEvent is a provisioning event as the metal-hammer, the machine's
// operating system or metal-core sends it: "PXE Booting", "Preparing",
// "Registering", "Waiting", "Installing", "Booting New Kernel",
// "Phoned Home", "Crashed", "Planned Reboot", "Machine Reclaim", "Alive".
// Registering makes a machine that was added with MachineBooting one of its
// size, rack and partition; Waiting puts a machine into the pool. An unknown
// machine becomes an empty one, as in reality; an unknown event is an error and
// changes nothing (218).
func (s *Simulator) SendEvent(machineID, event, message string) error {
	s.lock()
	defer s.unlock()
	if err := s.event(machineID, event, message, s.clock.Now()); err != nil {
		return err
	}
	switch n := s.machines[machineID]; {
	case event == eventRegistering && n.m.size == "" && n.spec.Size != "":
		next := *n.m
		if err := s.equip(&next, n.spec); err != nil {
			return err
		}
		_, _ = s.updateMachine(n.m, &next)
	case event == eventWaiting:
		s.startWaiting(n)
	case event == eventPXEBooting && n.m.waiting:
		// the call that hung has ended with the reboot
		next := *n.m
		next.waiting = false
		_, _ = s.updateMachine(n.m, &next)
	}
	return nil
}

// Register is the metal-hammer's report of a machine's hardware: what makes an
// empty machine (SendEvent "PXE Booting") one of a size, rack and partition.
func (s *Simulator) Register(id string, m Machine) error {
	return s.with(id, func(n *node) error {
		m.ID = id
		s.number(&m)
		n.spec = m
		next := *n.m
		if err := s.equip(&next, m); err != nil {
			return err
		}
		_, err := s.updateMachine(n.m, &next)
		return err
	})
}

// AddMachine puts another machine into a rack and returns its id.
func (s *Simulator) AddMachine(m Machine) (id string, err error) {
	s.lock()
	defer s.unlock()
	n, err := s.addMachine(m)
	if err != nil {
		return "", err
	}
	return n.id, nil
}

// AddImage makes another image known, which may be the newest of its alias from then on.
func (s *Simulator) AddImage(i Image) {
	s.lock()
	defer s.unlock()
	s.cat = s.cat.copy()
	s.buildImage(i)
}

// ReportInstalled is the installer's report: boot info and console password
// are there, changed moves (213).
func (s *Simulator) ReportInstalled(id string) error {
	return s.with(id, func(n *node) error {
		if n.m.alloc == nil {
			return fmt.Errorf("machine %q is not allocated", id)
		}
		s.report(n)
		return nil
	})
}

// PhoneHome lets an allocated machine get through its installation at once:
// Installing, Booting New Kernel, Phoned Home.
func (s *Simulator) PhoneHome(id string) error {
	return s.with(id, func(n *node) error {
		if n.m.alloc == nil {
			return fmt.Errorf("machine %q is not allocated", id)
		}
		now := s.clock.Now()
		s.switchOn(n, now)
		n.generation++
		s.noticed(n, n.m.alloc.uuid, now)
		n.generation++
		if n.ec.newest() != eventPhonedHome || n.m.alloc.boot == nil {
			s.emit(n, eventInstalling, "start installation", now)
			s.report(n)
			s.emit(n, eventBootingNewKernel, "", now)
		}
		s.emit(n, eventPhonedHome, "", now)
		return nil
	})
}

// Recycle lets a machine that is not allocated boot into the pool at once.
func (s *Simulator) Recycle(id string) error {
	return s.with(id, func(n *node) error {
		if n.m.alloc != nil {
			return fmt.Errorf("machine %q is allocated", id)
		}
		now := s.clock.Now()
		s.switchOn(n, now)
		n.generation++
		s.emit(n, eventPXEBooting, "machine sent extended dhcp request", now)
		s.emit(n, eventPreparing, "metal-hammer started", now)
		s.emit(n, eventRegistering, "registering machine", now)
		s.wait(n, now)
		return nil
	})
}

// Crash stops the machine's operating system: a Crashed event, then, at Speed
// above zero, boots that crash until Wake or a power cycle.
func (s *Simulator) Crash(id string) error {
	return s.with(id, func(n *node) error {
		now := s.clock.Now()
		n.generation++
		n.crashes = true
		s.emit(n, eventCrashed, "panic", now)
		s.boot(n, now, stepCrashLoop)
		return nil
	})
}

// Silence stops all events of a machine, whatever its power; after five minutes the liveliness
// cron job makes it Unknown (allocated) or Dead (530-536).
func (s *Simulator) Silence(id string) error {
	return s.with(id, func(n *node) error {
		n.silenced = true
		s.quieten(n, s.clock.Now())
		return nil
	})
}

// Wake lets a machine speak again that is silenced, crashed, hung or off: an allocated and
// installed one phones home, others boot.
func (s *Simulator) Wake(id string) error {
	return s.with(id, func(n *node) error {
		now := s.clock.Now()
		n.silenced, n.crashes = false, false
		s.switchOn(n, now)
		switch {
		case n.m.alloc != nil && n.m.alloc.boot != nil:
			n.generation++
			s.emit(n, eventPhonedHome, "", now)
		case n.m.waiting:
			s.emit(n, eventAlive, "", now)
			e := *n.ec
			e.beats = true
			s.setLog(n, &e)
		default:
			s.boot(n, now, stepReclaim)
		}
		return nil
	})
}

// Lock sets the state LOCKED, with which a machine cannot be freed (263).
func (s *Simulator) Lock(id, description string) error {
	return s.setState(id, stateLocked, description)
}

// Reserve sets the state RESERVED, with which a machine is not handed out by size.
func (s *Simulator) Reserve(id, description string) error {
	return s.setState(id, stateReserved, description)
}

// Unlock takes LOCKED or RESERVED away.
func (s *Simulator) Unlock(id string) error { return s.setState(id, "", "") }

func (s *Simulator) setState(id, value, description string) error {
	if value != "" && description == "" {
		description = "set by the simulator"
	}
	_, _, err := s.machineState(s.inside("machine-state", wire.State{Value: value, Description: description}, id))
	return err
}

// SetTags replaces the tags of an allocated machine, as another client with the
// Admin's key would.
func (s *Simulator) SetTags(id string, tags []string) error {
	_, _, err := s.machineUpdate(s.inside("machine-update", wire.MachineUpdateRequest{ID: id, Tags: tags}))
	return err
}

// ForceFree frees a machine as another client does, with metalctl machine rm.
func (s *Simulator) ForceFree(id string) error {
	_, _, err := s.machineFree(s.inside("machine-free", nil, id))
	return err
}

// AllocateFor is an allocation by another client; it returns the machine's id.
func (s *Simulator) AllocateFor(r AllocateRequest) (id string, err error) {
	req := wire.MachineAllocateRequest{
		ProjectID: r.Project, PartitionID: r.Partition, SizeID: r.Size, ImageID: r.Image,
		IPs: r.IPs, Tags: r.Tags, Networks: []wire.AllocationNetwork{},
	}
	if r.Name != "" {
		req.Name, req.Hostname = &r.Name, &r.Name
	}
	if r.Hostname != "" {
		req.Hostname = &r.Hostname
	}
	if r.UserData != "" {
		req.UserData = &r.UserData
	}
	if r.ID != "" {
		req.UUID = &r.ID
		req.PartitionID, req.SizeID = "", ""
	}
	for _, n := range r.Networks {
		req.Networks = append(req.Networks, wire.AllocationNetwork{NetworkID: n})
	}
	role, name := roleMachine, "machine-allocate"
	if r.Firewall {
		role, name = roleFirewall, "firewall-allocate"
	}
	if req.ImageID == "" {
		req.ImageID = MachineImage
		if r.Firewall {
			req.ImageID = FirewallImage
		}
	}
	_, answer, err := s.allocate(s.inside(name, req), req, role, nil)
	if err != nil {
		return "", err
	}
	m, ok := answer.(*wire.Machine)
	if !ok {
		return "", errors.New("allocation without a machine")
	}
	return m.ID, nil
}

// AllocateNetworkFor allocates a private network for a project and returns its id.
func (s *Simulator) AllocateNetworkFor(project, partition, name string, labels map[string]string) (id string, err error) {
	_, answer, err := s.networkAllocate(s.inside("network-allocate", wire.NetworkAllocateRequest{
		ProjectID: &project, PartitionID: &partition, Name: &name, Labels: labels,
	}))
	if err != nil {
		return "", err
	}
	return answer.(*wire.Network).ID, nil
}

// AllocateIPFor allocates a static address for a project and returns it.
func (s *Simulator) AllocateIPFor(project, network, name string, tags []string) (address string, err error) {
	_, answer, err := s.ipAllocate(s.inside("ip-allocate", wire.IPAllocateRequest{
		ProjectID: project, NetworkID: network, Name: &name, Type: typeStatic, Tags: tags,
	}))
	if err != nil {
		return "", err
	}
	return answer.(*wire.IP).IPAddress, nil
}

// DropEventContainer loses a machine's events: GET answers 404 from then on,
// find still shows it (327, 328).
func (s *Simulator) DropEventContainer(id string) error {
	return s.with(id, func(n *node) error {
		n.generation++
		n.ec = nil
		delete(s.quiet, n)
		return nil
	})
}

// MachineIDs are the machines in the order in which they came, for tests
// that need any machine.
func (s *Simulator) MachineIDs() []string {
	s.lock()
	defer s.unlock()
	var ids []string
	for _, n := range s.order {
		ids = append(ids, n.id)
	}
	return slices.Clip(ids)
}
