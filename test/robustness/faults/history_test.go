// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// step is one thing that a client does, or that goes wrong, at a time.
type step struct {
	at    time.Duration
	words string
	do    func(env *environment)
}

// history is what happens in one run; the same seed makes the same one.
type history struct {
	seed    uint64
	servers int
	steps   []step
}

// pace is the longest pause between two steps.
const pace = 40 * time.Second

// newHistory makes a history of a seed.
func newHistory(seed uint64) *history {
	d := &dice{rand.New(rand.NewPCG(seed, 0x686973746f7279))}
	h := &history{seed: seed, servers: 1 + d.IntN(2)}
	at := time.Duration(0)
	add := func(words string, do func(env *environment)) {
		h.steps = append(h.steps, step{at, words, do})
	}
	for _, o := range [][2]string{{clusters, "c0"}, {machines, "m0-0"}, {machines, "m0-1"}, {firewalls, "f0"}} {
		add(o[1]+" is created", creates(o[0], o[1]))
		at += 3 * time.Second
	}
	for range 12 + d.IntN(16) {
		at += time.Duration(d.Int64N(int64(pace)))
		kind := d.kind()
		words, do := kind(d)
		add(words, do)
	}
	h.allocatesServiceAddresses()
	return h
}

// dice decide what happens.
type dice struct{ *rand.Rand }

type kindOfStep func(d *dice) (words string, do func(env *environment))

// kinds are what can happen, and how often.
var kinds = []struct {
	weight int
	kind   kindOfStep
}{
	{10, createSomething}, {5, patchSomething}, {5, deleteSomething}, {3, listSomething}, {8, nameSomething}, {6, adminAllocates}, {3, adminDuplicates}, {4, nameForCluster}, {3, adminAllocatesNetworks},
	{10, metalFails}, {4, ledgerFails}, {8, setTrap}, {2, killNow}, {2, stopNow}, {2, loseLease}, {2, clocksStep},
	{3, adminFrees}, {2, adminTags}, {1, adminLocks}, {3, otherProjectAllocates}, {1, otherProjectCopiesTags},
}

func (d *dice) kind() kindOfStep {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	n := d.IntN(sum)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k.kind
		}
	}
	return nil
}

func pick[T any](d *dice, from ...T) T { return from[d.IntN(len(from))] }

// names are of what clients create; the data centre has machines for all.
var names = map[string][]string{
	clusters: {"c0", "c1"}, machines: {"m0-0", "m0-1", "m1-0", "m1-1"}, firewalls: {"f0", "f1"},
}

func (d *dice) object() (resource, name string) {
	resource = pick(d, machines, machines, machines, firewalls, clusters)
	return resource, pick(d, names[resource]...)
}

// existing is an object that may be there.
func (d *dice) existing() (resource, name string) {
	if d.IntN(5) == 0 {
		resource = pick(d, machines, machines, clusters)
		return resource, pick(d, namingOf[resource]...)
	}
	return d.object()
}

// namingOf are the objects that name metal.
var namingOf = map[string][]string{machines: naming, clusters: namingClusters}

// background does something for a client.
func background(do func(env *environment) error) func(env *environment) {
	return func(env *environment) { env.clients.Go(func() { _ = do(env) }) }
}

func creates(resource, name string) func(env *environment) {
	return background(func(env *environment) error { return env.create(resource, name) })
}

func createSomething(d *dice) (string, func(env *environment)) {
	resource, name := d.object()
	return name + " is created", creates(resource, name)
}

func patchSomething(d *dice) (string, func(env *environment)) {
	resource, name := d.existing()
	mark := fmt.Sprintf("example.org/%d", d.Uint32())
	return name + " is patched with " + mark, background(func(env *environment) error { return env.patch(resource, name, mark) })
}

func deleteSomething(d *dice) (string, func(env *environment)) {
	resource, name := d.existing()
	return name + " is deleted", background(func(env *environment) error { return env.removeNamed(resource, name) })
}

func listSomething(d *dice) (string, func(env *environment)) {
	resource, version := pick(d, resources...), pick(d, "", "0")
	return fmt.Sprintf("%s are listed at %q", resource, version), background(func(env *environment) error {
		_, err := env.list(resource, version)
		return err
	})
}

// removeNamed deletes what has a name now.
func (env *environment) removeNamed(resource, name string) error {
	m, err := env.find(resource, name)
	if err != nil || m == nil || m.GetDeletionTimestamp() != nil {
		return err
	}
	return env.remove(resource, name, m.GetUID())
}

// find returns what has a name now, or nil.
func (env *environment) find(resource, name string) (found metav1.Object, err error) {
	list, err := env.list(resource, "0")
	if err != nil {
		return nil, err
	}
	err = meta.EachListItem(list, func(item runtime.Object) error {
		if m := item.(metav1.Object); m.GetName() == name && managed(item) {
			found = m
		}
		return nil
	})
	return found, err
}

// resourceOf is what has a name.
func resourceOf(name string) string {
	for resource, all := range names {
		if slices.Contains(all, name) {
			return resource
		}
	}
	return ""
}

// refusals are answers that the metal-api gives, most of them for an outage.
var refusals = []struct {
	status  int
	message string
}{
	{http.StatusUnprocessableEntity, "rpc error: code = Unavailable desc = connection error: dial tcp: connection refused"},
	{http.StatusUnprocessableEntity, "something that nobody has seen before"},
	{http.StatusUnprocessableEntity, "too many parallel machine allocations taking place, try again later"},
	{http.StatusUnprocessableEntity, "no machine available"},
	{http.StatusInternalServerError, "rethinkdb: connection closed"},
	{http.StatusConflict, "the entity was changed from another, please retry"},
	{http.StatusBadGateway, "bad gateway"},
}

// metalWrites and metalReads are the calls that servers make.
var (
	metalWrites = []string{"machine-allocate", "machine-allocate", "firewall-allocate", "network-allocate", "ip-allocate", "machine-free", "machine-free", "network-free", "ip-free"}
	metalReads  = []string{"machine-list", "machine-find", "machine-get", "network-find", "ip-find", "machine-*", "*"}
)

func metalFails(d *dice) (string, func(env *environment)) {
	f := d.fault()
	words := fmt.Sprintf("the metal-api: %s of %s, %d times after %d", f.Kind, f.Endpoint, f.Times, f.Skip)
	switch {
	case f.Kind == simulator.FaultStatus:
		words += fmt.Sprintf(", %d %s", f.Status, f.Message)
	case f.Latency > 0:
		words += fmt.Sprintf(", %v %s", f.Latency, f.Phase)
	case f.Backend != "":
		words += ", " + f.Backend
	}
	return words, func(env *environment) { env.inject(f) }
}

// fault is something that goes wrong with the metal-api. What it does late, it
// does within 40 s of its client's going away, as it was seen to; frees sooner,
// since from a free to the next allocation of a machine it takes 40 s here.
func (d *dice) fault() simulator.Fault {
	write := d.IntN(3) > 0
	f := simulator.Fault{Endpoint: pick(d, metalReads...), Times: 1 + d.IntN(4), Skip: d.IntN(2)}
	f.Kind = pick(d, simulator.FaultRefused, simulator.FaultHang, simulator.FaultStatus, simulator.FaultLatency, simulator.FaultLateAnswer, simulator.FaultTruncatedList, simulator.FaultTruncatedBody, simulator.FaultBackendDown)
	if write {
		f.Endpoint, f.Times = pick(d, metalWrites...), 1+d.IntN(2)
		f.Kind = pick(d, simulator.FaultRefused, simulator.FaultHang, simulator.FaultStatus, simulator.FaultStatus, simulator.FaultBackendDown, simulator.FaultLatency,
			simulator.FaultCommitThenLose, simulator.FaultCommitThenLose, simulator.FaultCommitThenLate, simulator.FaultCommitThenLate, simulator.FaultLateAnswer, simulator.FaultClientGone, simulator.FaultTruncatedBody)
	}
	phases := simulator.Phases[f.Endpoint]
	switch f.Kind {
	case simulator.FaultStatus:
		r := pick(d, refusals...)
		f.Status, f.Message = r.status, r.message
		if d.IntN(8) == 0 && strings.HasSuffix(f.Endpoint, "-allocate") && f.Endpoint != "network-allocate" && f.Endpoint != "ip-allocate" {
			f.Status, f.Message = http.StatusBadRequest, "cannot parse "+userData // which it was sent
		}
	case simulator.FaultBackendDown:
		f.Backend = pick(d, "masterdata", "ipam", "rethinkdb", "nsq")
	case simulator.FaultLatency:
		f.Latency = time.Duration(1+d.IntN(25)) * time.Second
		if len(phases) > 0 {
			f.Phase = pick(d, phases...)
		}
	case simulator.FaultLateAnswer:
		f.Latency = time.Duration(1+d.IntN(25)) * time.Second
	case simulator.FaultCommitThenLate:
		f.Latency = time.Duration(1+d.IntN(25)) * time.Second
		if slices.Contains([]string{"machine-allocate", "firewall-allocate", "network-allocate", "ip-allocate"}, f.Endpoint) && d.IntN(2) == 0 {
			f.Latency += 5 * time.Minute
		}
	case simulator.FaultClientGone:
		f.Phase = pick(d, phases...)
	case simulator.FaultTruncatedList:
		f.Fraction = d.Float64() * 0.9
		if f.Endpoint != "machine-list" {
			f.Times = 1 // what two looks agree about is believed
		}
	}
	return f
}

// forgotten is after how long a fault is over that did not strike.
const forgotten = 3 * time.Minute

func (env *environment) inject(f simulator.Fault) {
	remove := env.sim.Inject(f)
	env.mu.Lock()
	env.faults = append(env.faults, remove)
	env.mu.Unlock()
	time.AfterFunc(forgotten, remove)
}
