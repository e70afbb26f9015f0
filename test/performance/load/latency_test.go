// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// histogram counts durations in steps of a twentieth, from a microsecond on.
type histogram struct {
	counts [400]int
	n      int
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.n++
	h.max = max(h.max, d)
	i := 0
	if d > time.Microsecond {
		i = int(math.Log(float64(d)/float64(time.Microsecond)) / math.Log(1.05))
	}
	h.counts[min(i, len(h.counts)-1)]++
}

// quantile is the duration that a part q of all did not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	left := int(math.Ceil(q * float64(h.n)))
	for i, n := range h.counts {
		if left -= n; left <= 0 {
			return min(h.max, time.Duration(float64(time.Microsecond)*math.Pow(1.05, float64(i+1))))
		}
	}
	return h.max
}

func (h *histogram) String() string {
	if h.n == 0 {
		return "none"
	}
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("median %s, p99 %s, max %s (%d events)", round(h.quantile(0.5)), round(h.quantile(0.99)), round(h.max), h.n)
}

// deliveries knows when each write was acknowledged and who has seen its event:
// every watcher that the write concerns sees it once.
type deliveries struct {
	mu     sync.Mutex
	writes map[uint64]*write
	// delay is how long after the acknowledgement an event was seen, without and
	// with slow watchers around; zero if it was seen before.
	delay [2]histogram
	with  int
}

// write is one revision.
type write struct {
	at        time.Time // when it was acknowledged; zero if it was not, yet
	namespace string
	seen      int
}

func newDeliveries() *deliveries { return &deliveries{writes: map[uint64]*write{}} }

// slowAround says that slow watchers are around from now on, or not any more.
func (d *deliveries) slowAround(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.with = 0
	if yes {
		d.with = 1
	}
}

func (d *deliveries) at(revision uint64) *write {
	if d.writes[revision] == nil {
		d.writes[revision] = &write{}
	}
	return d.writes[revision]
}

// acknowledged notes that a write has been answered.
func (d *deliveries) acknowledged(revision uint64, namespace string) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.at(revision)
	if !w.at.IsZero() {
		return
	}
	w.at, w.namespace = now, namespace
	for range w.seen {
		d.delay[d.with].add(0)
	}
}

// saw notes that a watcher has an event.
func (d *deliveries) saw(revision uint64) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.at(revision)
	w.seen++
	if !w.at.IsZero() {
		d.delay[d.with].add(now.Sub(w.at))
	}
}

// missed returns the acknowledged writes that not as many watchers have seen as
// watch their namespace.
func (d *deliveries) missed(watching map[string]int) (missed []string, writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for revision, w := range d.writes {
		if w.at.IsZero() {
			continue
		}
		writes++
		if want := watching[w.namespace]; w.seen != want {
			missed = append(missed, fmt.Sprintf("revision %d of %s was seen by %d of %d watchers", revision, w.namespace, w.seen, want))
		}
	}
	return missed, writes
}
