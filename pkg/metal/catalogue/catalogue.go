// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metrics"
)

// MetricCatalogueLoads is the name of the catalogue's metric. Its label outcome
// is OK, limited or a metal.Kind.
const MetricCatalogueLoads = "metalstack_metal_catalogue_loads_total"

// How fresh the catalogue is.
const (
	// refreshInterval is how often lists are read again.
	refreshInterval = 5 * time.Minute
	// minGap is the least time between two reads of one list or of one
	// id that is not known: the most that typing errors cost. A list that takes
	// long is read at intervals of which it takes 1 %.
	minGap      = 5 * time.Second
	quietFactor = 100
	// retryGap is the least time between two reads while they fail. It is
	// short, so that what is asked for when an outage is over is checked.
	retryGap = 250 * time.Millisecond
	// minRetryInterval and maxRetryInterval limit how long after a failure a consistent read
	// reads a list again: as long as reads fail already.
	minRetryInterval = time.Second
	maxRetryInterval = 30 * time.Second
	entryTTL         = 30 * time.Second
	// volatileTTL is how old an answer may be about what comes and goes.
	volatileTTL = time.Second
	// powerTTL is how old a power state may be, and what is used of a project's quotas. A
	// machine's controller reports the former every few minutes.
	powerTTL      = 3 * time.Second
	lookupTimeout = 3 * time.Second
	refreshTick   = 10 * time.Second
	// usedInterval is for how long after their last use lists are kept fresh that are read on
	// demand.
	usedInterval = 15 * time.Minute
	maxEntries   = 10_000
)

// Catalogue answers what the metal-api offers, from a cache.
//
// A Lookup returns the entry, or nil and the ids that there are. An error, a
// *metal.Error of kind Unavailable, means that it cannot be known at the moment: the
// id is not in the cache, and the metal-api does not answer; its text says
// since when.
//
// While the metal-api does not answer, the cache shows a project only what
// that may use: knowing that something of another project was cached
// would distinguish it from what does not exist.
type Catalogue struct {
	clock      clock.WithTicker
	sizes      *listCache[metal.Size]
	images     *listCache[metal.Image]
	partitions *listCache[metal.Partition]
	// networks is for suggestions; network answers whether one exists.
	networks *listCache[metal.Network]
	network  *entityCache[metal.Network]
	machine  *entityCache[metal.Machine]
	address  *entityCache[metal.IP]
	power    *entityCache[metal.PowerState]
	facts    Facts
	newest   newestImages
	// Of what specs do not name, lists are read on demand.
	projects     *listCache[metal.Project]
	project      *entityCache[metal.Project]
	reservations *listCache[metal.Reservation]
	constraints  *listCache[metal.SizeImageConstraint]
	layouts      *listCache[metal.FilesystemLayout]
	changes      changes
}

// New returns an empty catalogue over a backend, which it asks by itself
// when it is asked itself. A nil clock is the real one.
func New(backend metal.Inventory, c clock.WithTicker) *Catalogue {
	if c == nil {
		c = clock.RealClock{}
	}
	catalogue := &Catalogue{
		clock:      c,
		sizes:      newListCache(c, "size", backend.ListSizes, func(s *metal.Size) string { return s.ID }),
		images:     newListCache(c, "image", backend.ListImages, func(i *metal.Image) string { return i.ID }),
		partitions: newListCache(c, "partition", backend.ListPartitions, func(p *metal.Partition) string { return p.ID }),
		networks:   newListCache(c, "network", backend.ListNetworks, func(n *metal.Network) string { return n.ID }),
		network:    newEntityCache(c, "network", backend.Network),
		machine:    newEntityCache(c, "machine", backend.Machine),
		address:    newEntityCache(c, "address", backend.IP),
		power:      newEntityCache(c, "power state", backend.PowerState),
		projects:   newListCache(c, "project", backend.ListProjects, func(p *metal.Project) string { return p.ID }),
		project:    newEntityCache(c, "project", backend.Project),
		reservations: newListCache(c, "size reservation", backend.ListReservations,
			func(r *metal.Reservation) string { return r.ID }),
		constraints: newListCache(c, "size image constraint", backend.ListSizeImageConstraints,
			func(s *metal.SizeImageConstraint) string { return s.Size }),
		layouts: newListCache(c, "filesystem layout", backend.ListLayouts, func(l *metal.FilesystemLayout) string { return l.ID }),
		changes: newChanges(),
	}
	catalogue.machine.ttl, catalogue.machine.missTTL = volatileTTL, volatileTTL
	catalogue.address.ttl, catalogue.address.missTTL = volatileTTL, volatileTTL
	catalogue.power.ttl, catalogue.power.missTTL = powerTTL, powerTTL
	catalogue.project.ttl, catalogue.project.missTTL = powerTTL, powerTTL
	catalogue.project.rate = rate.NewLimiter(projectRate, projectBurst)
	catalogue.project.changed = func(id string) { catalogue.beginReport(id) }
	limits := newLookupLimits(c)
	catalogue.projects.onDemand, catalogue.reservations.onDemand = true, true
	catalogue.constraints.onDemand, catalogue.layouts.onDemand = true, true
	report := func() { catalogue.beginReport() }
	catalogue.sizes.changed, catalogue.partitions.changed = report, report
	catalogue.projects.changed, catalogue.reservations.changed, catalogue.constraints.changed = report, report, report
	catalogue.images.changed = func() {
		catalogue.updateNewestImages()
		report()
	}
	catalogue.network.limits, catalogue.machine.limits, catalogue.address.limits = limits, limits, limits
	catalogue.power.limits, catalogue.project.limits = limits, limits
	return catalogue
}

// Facts are what is known of machines.
type Facts interface {
	Machine(id string) (*metal.Machine, metal.Presence)
}

// WithFacts has the catalogue take machines for known that were observed,
// although a GET does not show them: those without an event container (docs/metal-api.md, Q24).
func (c *Catalogue) WithFacts(facts Facts) *Catalogue {
	c.facts = facts
	return c
}

// WithMetrics registers the catalogue's metrics.
func (c *Catalogue) WithMetrics(reg prometheus.Registerer) *Catalogue {
	loads := metrics.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: MetricCatalogueLoads, Help: "Number of reads of the metal-api's catalogue, by entity and outcome: OK, an error kind, or limited for lookups that a limit rejected.",
	}, []string{"entity", "outcome"}))
	c.sizes.loads, c.images.loads, c.partitions.loads, c.networks.loads = loads, loads, loads, loads
	c.network.loads, c.machine.loads, c.address.loads, c.power.loads, c.project.loads = loads, loads, loads, loads, loads
	c.projects.loads, c.reservations.loads, c.constraints.loads, c.layouts.loads = loads, loads, loads, loads
	return c
}

// Run keeps the cache fresh until ctx ends. Lookups work without it.
func (c *Catalogue) Run(ctx context.Context) {
	ticker := c.clock.NewTicker(refreshTick)
	defer ticker.Stop()
	for {
		c.sizes.refreshIfDue()
		c.images.refreshIfDue()
		c.partitions.refreshIfDue()
		c.projects.refreshIfDue()
		c.reservations.refreshIfDue()
		c.constraints.refreshIfDue()
		c.layouts.refreshIfDue()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// LookupSize looks up a size.
func (c *Catalogue) LookupSize(ctx context.Context, id string) (size *metal.Size, all []string, err error) {
	return c.sizes.lookup(ctx, id)
}

// Size returns a size from the cache, or nil. It never asks.
func (c *Catalogue) Size(id string) *metal.Size { return c.sizes.get(id) }

// LookupPartition looks up a partition.
func (c *Catalogue) LookupPartition(ctx context.Context, id string) (partition *metal.Partition, all []string, err error) {
	return c.partitions.lookup(ctx, id)
}
