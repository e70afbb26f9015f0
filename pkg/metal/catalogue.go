package metal

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
)

// Size is a kind of machine.
type Size struct {
	ID          string
	Name        string
	Description string
	Constraints []SizeConstraint
}

// SizeConstraint is one thing that the hardware of a size has: Type is cores,
// memory (bytes), storage (bytes) or gpu (Identifier tells which).
type SizeConstraint struct {
	Type       string
	Identifier string
	Min, Max   int64
}

// The types of constraints that say what a size offers.
const (
	ConstraintCores  = "cores"
	ConstraintMemory = "memory"
)

// Image is an operating system image with its full id, os-major.minor.patch.
type Image struct {
	ID string
	// Alias is the id without the patch, which means the newest of them.
	Alias          string
	Name           string
	Description    string
	Features       []string // FeatureMachine, FeatureFirewall
	Classification string   // preview, supported, deprecated
	Expires        time.Time
}

// The features of images.
const (
	FeatureMachine  = "machine"
	FeatureFirewall = "firewall"
)

// Partition is one location with racks and a network fabric.
type Partition struct {
	ID          string
	Name        string
	Description string
	Labels      map[string]string
}

// Project owns machines, networks and addresses.
type Project struct {
	ID     string
	Name   string
	Tenant string
}

// How fresh the catalogue is.
const (
	// catalogueInterval is how often lists are read again.
	catalogueInterval = 5 * time.Minute
	// catalogueGap is the least time between two reads of one list or of one
	// id that is not known: what typing errors cost at most. A list that takes
	// long is read so seldom that it takes 1 % of the time.
	catalogueGap   = 5 * time.Second
	catalogueQuiet = 100
	// catalogueRetry is the least time between two reads while they fail. It is
	// short, so that what is asked for when an outage is over is checked.
	catalogueRetry = 250 * time.Millisecond
	catalogueTTL   = 30 * time.Second
	// catalogueMoment is how old an answer may be about what comes and goes.
	catalogueMoment  = time.Second
	catalogueWait    = 3 * time.Second
	catalogueTick    = 10 * time.Second
	catalogueMostIDs = 10_000
)

// Catalogue answers what the metal-api offers, from a cache.
//
// A Lookup returns the entry, or nil and the ids that there are. An error, an
// *Error of kind Unavailable, means that it cannot be known at the moment: the
// id is not in the cache, and the metal-api does not answer; its text says
// since when.
//
// While the metal-api does not answer, the cache tells a project only of what
// that may use: that something was seen which is another project's would tell
// it from what does not exist.
type Catalogue struct {
	clock      clock.WithTicker
	sizes      *list[Size]
	images     *list[Image]
	partitions *list[Partition]
	// networks is for what could be meant instead; byID answers what is.
	networks *list[Network]
	network  *byID[Network]
	project  *byID[Project]
	machine  *byID[Machine]
	address  *byID[IP]
	seen     func(id string) (*Machine, Presence)
}

// NewCatalogue returns an empty catalogue over client, which it asks by itself
// when it is asked itself. A nil clock is the real one.
func NewCatalogue(client *Client, c clock.WithTicker) *Catalogue {
	if c == nil {
		c = clock.RealClock{}
	}
	catalogue := &Catalogue{
		clock:      c,
		sizes:      newList(c, "size", client.ListSizes, func(s *Size) string { return s.ID }),
		images:     newList(c, "image", client.ListImages, func(i *Image) string { return i.ID }),
		partitions: newList(c, "partition", client.ListPartitions, func(p *Partition) string { return p.ID }),
		networks:   newList(c, "network", client.ListNetworks, func(n *Network) string { return n.ID }),
		network:    newByID(c, "network", client.Network),
		project:    newByID(c, "project", client.Project),
		machine:    newByID(c, "machine", client.Machine),
		address:    newByID(c, "address", client.IP),
	}
	catalogue.machine.ttl, catalogue.machine.gap = catalogueMoment, catalogueMoment
	catalogue.address.ttl, catalogue.address.gap = catalogueMoment, catalogueMoment
	limits := newLookupLimits(c)
	catalogue.network.limits, catalogue.project.limits, catalogue.machine.limits, catalogue.address.limits = limits, limits, limits, limits
	return catalogue
}

// WithSightings has the catalogue take machines for known that were seen,
// although a GET does not show them: those without an event container (docs/metal-api.md, Q24).
func (c *Catalogue) WithSightings(o *Observer) *Catalogue {
	c.seen = o.Machine
	return c
}

// WithMetrics registers the catalogue's metrics.
func (c *Catalogue) WithMetrics(reg prometheus.Registerer) *Catalogue {
	loads := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: MetricCatalogueLoads, Help: "Reads of the metal-api's catalogue by outcome; limited: not started because of a lookup limit.",
	}, []string{"entity", "outcome"}))
	c.sizes.loads, c.images.loads, c.partitions.loads, c.networks.loads = loads, loads, loads, loads
	c.network.loads, c.project.loads, c.machine.loads, c.address.loads = loads, loads, loads, loads
	return c
}

// Run keeps the cache fresh until ctx ends. Lookups work without it.
func (c *Catalogue) Run(ctx context.Context) {
	ticker := c.clock.NewTicker(catalogueTick)
	defer ticker.Stop()
	for {
		c.sizes.keepFresh()
		c.images.keepFresh()
		c.partitions.keepFresh()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// LookupSize looks up a size.
func (c *Catalogue) LookupSize(ctx context.Context, id string) (size *Size, all []string, err error) {
	return c.sizes.lookup(ctx, id)
}

// Size returns a size from the cache, or nil. It never asks.
func (c *Catalogue) Size(id string) *Size { return c.sizes.known(id) }

// OnSizes has f called whenever the sizes in the cache have changed. It is to
// be called before Run and the first lookup.
func (c *Catalogue) OnSizes(f func()) { c.sizes.changed = f }

// LookupPartition looks up a partition.
func (c *Catalogue) LookupPartition(ctx context.Context, id string) (partition *Partition, all []string, err error) {
	return c.partitions.lookup(ctx, id)
}

// LookupImage looks up an image with the feature ("" for any) by its full id,
// or by its alias, which answers the newest; all are the aliases of the images
// with the feature.
func (c *Catalogue) LookupImage(ctx context.Context, id, feature string) (image *Image, all []string, err error) {
	entries, err := c.images.entries(ctx, id, func(entries []*Image) bool { return findImage(entries, id, feature) != nil })
	if found := findImage(entries, id, feature); found != nil {
		return found, nil, nil
	}
	for _, i := range entries {
		if i.has(feature) && !slices.Contains(all, i.Alias) {
			all = append(all, i.Alias)
		}
	}
	slices.Sort(all)
	return nil, all, err
}

func (i *Image) has(feature string) bool {
	return feature == "" || slices.Contains(i.Features, feature)
}

func findImage(entries []*Image, id, feature string) (found *Image) {
	for _, i := range entries {
		switch {
		case !i.has(feature):
		case i.ID == id:
			return i
		case i.Alias == id && (found == nil || comparePatch(i.ID, found.ID) > 0):
			found = i
		}
	}
	return found
}

// comparePatch compares two ids of one alias: patch versions are numbers of
// any length, usually dates.
func comparePatch(a, b string) int {
	a, b = a[strings.LastIndex(a, ".")+1:], b[strings.LastIndex(b, ".")+1:]
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
