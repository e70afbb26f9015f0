// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"sync/atomic"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// cache keeps a machine's JSON as an entry of a list, in two halves around
// the time of its last event, which moves with every sign of life.
type cache struct {
	p atomic.Pointer[encoded]
}

type encoded struct {
	m          *machine
	ec         *eventLog
	cat        *catalogue
	head, tail []byte
}

// view is what a machine looked like at a moment.
type view struct {
	n   *node
	m   *machine
	ec  *eventLog
	cat *catalogue
	now time.Time

	power   power
	compact bool
}

// snapshot is what a machine is at the moment. The caller holds the lock.
func (s *Simulator) snapshot(n *node) view {
	now := s.clock.Now()
	s.reportPower(n, now)
	return view{n: n, m: n.m, ec: n.ec, cat: s.cat, now: now, power: n.power, compact: s.cfg.Compact}
}

// wire is the machine as JSON has it.
func (v view) wire(ipmi bool) *wire.Machine {
	m := v.m
	w := &wire.Machine{
		ID: m.id, Partition: v.cat.partitions[m.partition], RackID: m.rack, Size: v.cat.sizes[m.size],
		Hardware: *m.hardware, BIOS: m.bios, State: m.state, LEDState: m.led,
		Events: v.ec.wire(v.now), Tags: orNone(m.tags), Created: m.created, Changed: m.changed,
	}
	if v.ec != nil {
		w.Liveliness = v.ec.liveliness
	}
	if ipmi {
		w.IPMI = v.power.ipmiOf(m)
	}
	if a := m.alloc; a != nil {
		w.Allocation = &wire.Allocation{
			Creator: a.creator, Created: a.created, Name: a.name, Description: a.description, Project: a.project,
			Image: v.cat.images[a.image], FilesystemLayout: a.layout, Networks: a.networks, Hostname: a.hostname,
			SSHPubKeys: a.sshKeys, UserData: a.userData, Reinstall: a.reinstall, BootInfo: a.boot, Role: a.role,
			AllocationUUID: a.uuid, FirewallRules: a.rules, DNSServers: a.dns, NTPServers: a.ntp,
		}
	}
	return w
}

const lastEventKey = `"last_event_time": "`

// compactEventKey is lastEventKey without indentation.
const compactEventKey = `"last_event_time":"`

// entry is the machine's JSON as an entry of a list.
func (v view) entry() []byte {
	e := v.n.encoded.p.Load()
	if e == nil || e.m != v.m || e.ec != v.ec || e.cat != v.cat {
		b, key, err := []byte(nil), lastEventKey, error(nil)
		if v.compact {
			key = compactEventKey
			b, err = json.Marshal(v.wire(false))
		} else {
			b, err = json.MarshalIndent(v.wire(false), " ", " ")
		}
		if err != nil {
			panic(err) // wire types always encode
		}
		e = &encoded{m: v.m, ec: v.ec, cat: v.cat, head: b}
		// the key cannot be part of a string: its quotes would be escaped
		if i := bytes.Index(b, []byte(key)); i >= 0 {
			i += len(key)
			e.head, e.tail = b[:i:i], b[i+bytes.IndexByte(b[i:], '"'):]
		}
		v.n.encoded.p.Store(e)
	}
	if e.tail == nil {
		return e.head
	}
	b := make([]byte, 0, len(e.head)+len(e.tail)+32)
	b = append(b, e.head...)
	b = v.ec.lastAt(v.now).AppendFormat(b, time.RFC3339Nano)
	return append(b, e.tail...)
}
