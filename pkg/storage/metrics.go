// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

const metricsSubsystem = "metalstack_storage"

func counter(name, help string, labels ...string) *metrics.CounterVec {
	return metrics.NewCounterVec(&metrics.CounterOpts{Subsystem: metricsSubsystem, Name: name, Help: help, StabilityLevel: metrics.ALPHA}, labels)
}

var (
	commits         = counter("commits_total", "Changes committed to the views, by resource and event type.", "resource", "type")
	ledgerConflicts = counter("ledger_conflicts_total", "Ledger writes refused because another server had written.", "resource")
	ledgerUncertain = counter("ledger_uncertain_total", "Ledger writes with an unknown outcome.", "resource")
	watchersCutOff  = counter("watchers_cut_off_total", "Watches ended because they fell behind the event history.", "resource")
	staleReads      = counter("stale_reads_total", "Consistent reads answered with a warning because their refresh did not finish in time.", "resource")

	objectsDesc       = gauge("objects", "Objects in the view, by resource and whether a record manages them.", "resource", "managed")
	watchesDesc       = gauge("watches", "Open watches, by resource.", "resource")
	historyDesc       = gauge("history_events", "Events in the history, from which watches can resume.", "resource")
	historyAgeDesc    = gauge("history_age_seconds", "Age of the oldest event in the history, in seconds.", "resource")
	encodingCacheDesc = gauge("encoding_cache_bytes", "Bytes of encodings that are kept for lists, gets and watches.")
	encodingLimitDesc = gauge("encoding_cache_limit_bytes", "Bytes of encodings that are kept at most, by the number of objects and the memory limit.")
	uncertainKeysDesc = gauge("uncertain_keys", "Keys whose state in the ledger is unknown after an uncertain write.", "resource")
)

func gauge(name, help string, labels ...string) *metrics.Desc {
	return metrics.NewDesc(metrics.BuildFQName("", metricsSubsystem, name), help, labels, nil, metrics.ALPHA, "")
}

// collectors are the backends of this process: one in a server, many in tests.
var collectors = &collector{backends: map[*Backend]struct{}{}}

var registerOnce sync.Once

// registerMetrics shows the backend's figures until its context ends.
func registerMetrics(b *Backend) {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(commits, ledgerConflicts, ledgerUncertain, watchersCutOff, staleReads)
		legacyregistry.CustomMustRegister(collectors)
	})
	collectors.mu.Lock()
	defer collectors.mu.Unlock()
	collectors.backends[b] = struct{}{}
	context.AfterFunc(b.ctx, func() {
		collectors.mu.Lock()
		defer collectors.mu.Unlock()
		delete(collectors.backends, b)
	})
}

// initCounters begins a resource's counters: one that appears with its first
// event hides that event from queries for its increase.
func initCounters(resource string) {
	for _, c := range []*metrics.CounterVec{ledgerConflicts, ledgerUncertain, watchersCutOff, staleReads} {
		c.WithLabelValues(resource)
	}
}

// collector reads figures when they are asked for.
type collector struct {
	metrics.BaseStableCollector

	mu       sync.Mutex
	backends map[*Backend]struct{}
}

// DescribeWithStability implements metrics.StableCollector.
func (*collector) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{objectsDesc, watchesDesc, historyDesc, historyAgeDesc, uncertainKeysDesc, encodingCacheDesc, encodingLimitDesc} {
		ch <- d
	}
}

type stats struct {
	managed, discovered, watches, events, uncertain, age float64
}

// CollectWithStability implements metrics.StableCollector.
func (c *collector) CollectWithStability(ch chan<- metrics.Metric) {
	for resource, f := range c.collect() {
		send := func(d *metrics.Desc, value float64, labels ...string) {
			ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, value, append([]string{resource}, labels...)...)
		}
		send(objectsDesc, f.managed, "true")
		send(objectsDesc, f.discovered, "false")
		send(watchesDesc, f.watches)
		send(historyDesc, f.events)
		send(historyAgeDesc, f.age)
		send(uncertainKeysDesc, f.uncertain)
	}
	bytes, limit := c.encodingCaches()
	ch <- metrics.NewLazyConstMetric(encodingCacheDesc, metrics.GaugeValue, bytes)
	ch <- metrics.NewLazyConstMetric(encodingLimitDesc, metrics.GaugeValue, limit)
}

func (c *collector) encodingCaches() (bytes, limit float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.backends {
		bytes += float64(b.encodings.bytes())
		limit += float64(b.encodings.limit())
	}
	return bytes, limit
}

func (c *collector) collect() map[string]stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := map[string]stats{}
	for b := range c.backends {
		b.mu.Lock()
		stores := b.stores
		b.mu.Unlock()
		for _, s := range stores {
			f := sum[s.resource.Resource]
			s.addStats(&f)
			sum[s.resource.Resource] = f
		}
		for _, p := range b.uncertain.keys() {
			f := sum[p.store.resource.Resource]
			f.uncertain++
			sum[p.store.resource.Resource] = f
		}
	}
	return sum
}

func (s *Store) addStats(f *stats) {
	v := &s.view
	v.mu.RLock()
	defer v.mu.RUnlock()
	f.managed += float64(v.records)
	f.discovered += float64(v.tree.Len() - v.records)
	f.watches += float64(s.watches.Load())
	f.events += float64(len(v.ring.events))
	if len(v.ring.events) > 0 {
		f.age = max(f.age, s.backend.clock.Since(v.ring.events[0].at).Seconds())
	}
}
