// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

const (
	// stepPower is how long a command takes at Speed 1 from the metal-api to its effect.
	stepPower = 3 * time.Second
	// powerReportInterval is how often metal-bmc reports, at Speed 1.
	powerReportInterval = 5 * time.Minute

	powerOn  = "ON"
	powerOff = "OFF"
)

// power is whether a server has power, and what metal-bmc reported of that last.
type power struct {
	off bool
	// hung: it has power, and does nothing until it is reset.
	hung bool
	// nextBoot is where its next boot starts from: "", PXE or BIOS.
	nextBoot string

	reported time.Time
	state    string
}

func (p power) String() string {
	if p.off {
		return powerOff
	}
	return powerOn
}

// reportPower is the report of metal-bmc that is the last at the moment, if it is not known yet.
// It is made when it is needed, which is before the power changes, and when the power is shown;
// unlike a real one it does not move the machine's time of change.
func (s *Simulator) reportPower(n *node, now time.Time) {
	interval := s.cfg.PowerReportInterval
	if interval == 0 && s.reportsPower() {
		interval = time.Duration(float64(powerReportInterval) / s.speed)
	}
	switch {
	case interval == 0:
	case interval < 0:
		n.power.report(now)
	default:
		if last := s.started.Add(now.Sub(s.started).Truncate(interval)); last.After(n.power.reported) {
			n.power.report(last)
		}
	}
}

// reportsPower is whether metal-bmc reports by itself.
func (s *Simulator) reportsPower() bool { return s.cfg.PowerReportInterval != 0 || s.speed > 0 }

func (p *power) report(at time.Time) { p.reported, p.state = at, p.String() }

// ipmiOf is what is known of a machine's controller. One that has never reported is not known.
func (p power) ipmiOf(m *machine) *wire.IPMI {
	i := m.ipmi
	if i.PowerState != "" && !stored(p.reported).Before(i.LastUpdated) {
		i.PowerState, i.LastUpdated = p.state, stored(p.reported)
	}
	return &i
}

// powerCommands by the last part of the path.
var powerCommands = map[string]string{
	"on": "ON", "off": "OFF", "reset": "RESET", "cycle": "CYCLE", "bios": "BIOS", "disk": "DISK", "pxe": "PXE",
	"chassis-identify-led-on": "LED-ON", "chassis-identify-led-off": "LED-OFF",
}

// machinePower sends a command to the machine's controller (267). With nsqd away it is not sent,
// but what comes before is done: the event of a reboot, and the LED (2/081-086).
func (s *Simulator) machinePower(c *call, cmd string) (int, any, error) {
	s.lock()
	defer s.unlock()
	n, m, err := s.findMachine(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	now := s.clock.Now()
	switch cmd {
	case "OFF", "RESET", "CYCLE":
		if err := s.event(n.id, eventPlannedReboot, cmd, now); err != nil {
			return 0, nil, err
		}
	case "LED-ON", "LED-OFF":
		next := *m
		next.led = wire.LEDState{Value: cmd, Description: c.query("description")}
		if m, err = s.updateMachine(m, &next); err != nil {
			return 0, nil, err
		}
	}
	if c.down(backendNSQ) {
		if n.ec.newest() == eventPlannedReboot {
			s.phoneHomeAgain(n, now)
		}
		return 0, nil, errors.New(nsqDown)
	}
	s.command(n, cmd, now)
	return s.answerMachine(c, n, m)
}

// command has the machine's controller carry out a command after a while; at Speed 0 at once.
func (s *Simulator) command(n *node, cmd string, now time.Time) {
	if s.speed <= 0 {
		s.carryOut(n, cmd, now)
		return
	}
	s.at(now.Add(time.Duration(float64(stepPower)/s.speed)), func(now time.Time) {
		if n.m != nil {
			s.carryOut(n, cmd, now)
		}
	})
}

func (s *Simulator) carryOut(n *node, cmd string, now time.Time) {
	switch cmd {
	case "OFF":
		s.reportPower(n, now)
		n.power.off, n.power.hung, n.crashes = true, false, false
		s.quieten(n, now)
	case "ON":
		if n.power.off {
			s.reboot(n, now)
		}
	case "RESET", "CYCLE":
		n.crashes = false
		s.reboot(n, now)
	case "BIOS", "PXE":
		n.power.nextBoot = cmd
	case "DISK":
		n.power.nextBoot, n.netBoot = "", false
	}
}

// switchOn gives a server power, and lets it start from anew.
func (s *Simulator) switchOn(n *node, now time.Time) {
	s.reportPower(n, now)
	n.power.off, n.power.hung = false, false
}

// quieten ends all that a server does by itself, and its signs of life.
func (s *Simulator) quieten(n *node, now time.Time) {
	n.generation++
	if n.ec != nil {
		e := *n.ec
		e.last = e.lastAt(now)
		e.beats = false
		s.setLog(n, &e)
	}
}

// isQuiet is whether a server does nothing.
func (n *node) isQuiet() bool { return n.silenced || n.power.off || n.power.hung }

// phoneHomeAgain is the next sign of life of a machine that was to be rebooted, and was not.
func (s *Simulator) phoneHomeAgain(n *node, now time.Time) {
	if n.m.alloc == nil || n.m.alloc.boot == nil || s.speed <= 0 {
		return
	}
	generation := n.generation
	s.at(now.Add(beatInterval), func(now time.Time) {
		if n.generation == generation && !n.isQuiet() && n.ec.newest() == eventPlannedReboot {
			s.emit(n, eventPhonedHome, "", now)
		}
	})
}

// Hang has a server hang: it keeps its power and does nothing, until it is reset, cycled, or
// switched off and on. After five minutes the liveliness cron job notices.
func (s *Simulator) Hang(id string) error {
	return s.with(id, func(n *node) error {
		now := s.clock.Now()
		if n.power.off {
			return fmt.Errorf("machine %q is off", id)
		}
		n.power.hung = true
		s.quieten(n, now)
		return nil
	})
}

// ReportPower reports the power states of machines now, or of all; see
// Config.PowerReportInterval.
func (s *Simulator) ReportPower(ids ...string) error {
	if len(ids) == 0 {
		ids = s.MachineIDs()
	}
	for _, id := range ids {
		if err := s.with(id, func(n *node) error { n.power.report(s.clock.Now()); return nil }); err != nil {
			return err
		}
	}
	return nil
}
