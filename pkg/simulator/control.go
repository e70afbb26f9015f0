package simulator

import "errors"

var errNotYet = errors.New("not implemented yet")

// AllocateRequest is what AllocateFor allocates.
type AllocateRequest struct {
	Project, Name, Hostname, Size, Partition, Image string
	ID                                              string // a machine to take; empty: any waiting one of Size
	Networks                                        []string
	IPs                                             []string
	Tags                                            []string
	Firewall                                        bool
}

// SendEvent is a provisioning event as the metal-hammer, the machine's
// operating system or metal-core sends it: "PXE Booting", "Preparing",
// "Registering", "Waiting", "Installing", "Booting New Kernel",
// "Phoned Home", "Crashed", "Planned Reboot", "Machine Reclaim", "Alive".
// An unknown machine gets an event container, as in life; an unknown event
// is an error.
func (s *Simulator) SendEvent(machineID, event, message string) error { return errNotYet }

// AddMachine puts another machine into a rack.
func (s *Simulator) AddMachine(m Machine) (id string, err error) { return "", errNotYet }

// Crash stops the machine's operating system: a Crashed event, then, at
// Speed above zero, boot loops.
func (s *Simulator) Crash(id string) error { return errNotYet }

// Silence stops all events of a machine; the liveliness cron then makes it
// Dead or Unknown (530-536). Wake undoes it.
func (s *Simulator) Silence(id string) error { return errNotYet }

// Wake lets a silenced machine speak again.
func (s *Simulator) Wake(id string) error { return errNotYet }

// Lock sets the state LOCKED, with which a machine cannot be freed.
func (s *Simulator) Lock(id, description string) error { return errNotYet }

// Unlock takes LOCKED or RESERVED away.
func (s *Simulator) Unlock(id string) error { return errNotYet }

// Reserve sets the state RESERVED.
func (s *Simulator) Reserve(id, description string) error { return errNotYet }

// SetTags replaces the tags of an allocated machine.
func (s *Simulator) SetTags(id string, tags []string) error { return errNotYet }

// ForceFree frees a machine behind everybody's back, as metalctl machine rm.
func (s *Simulator) ForceFree(id string) error { return errNotYet }

// AllocateFor is somebody else's allocation; it returns the machine's id.
func (s *Simulator) AllocateFor(r AllocateRequest) (id string, err error) { return "", errNotYet }

// DropEventContainer loses a machine's events: GET answers 404 from then
// on, find still shows it (327, 328).
func (s *Simulator) DropEventContainer(id string) error { return errNotYet }
