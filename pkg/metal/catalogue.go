package metal

import (
	"context"
	"time"

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

// Catalogue answers what the metal-api offers, from a cache.
//
// A Lookup returns the entry, or nil and the ids that there are. An error
// means that it cannot be known at the moment: the id is not in the cache, and
// the metal-api cannot be reached to ask again; its text says since when.
type Catalogue struct{}

// NewCatalogue returns an empty catalogue.
func NewCatalogue(client *Client, clock clock.WithTicker) *Catalogue { return &Catalogue{} }

// Run keeps the cache fresh until ctx ends. Lookups work without it.
func (c *Catalogue) Run(ctx context.Context) { <-ctx.Done() }

// LookupSize looks up a size.
func (c *Catalogue) LookupSize(ctx context.Context, id string) (size *Size, all []string, err error) {
	return nil, nil, nil
}

// LookupImage looks up an image by its full id or its alias, which answers the
// newest; all are the aliases of images with the feature ("" for any).
func (c *Catalogue) LookupImage(ctx context.Context, id, feature string) (image *Image, all []string, err error) {
	return nil, nil, nil
}

// LookupPartition looks up a partition.
func (c *Catalogue) LookupPartition(ctx context.Context, id string) (partition *Partition, all []string, err error) {
	return nil, nil, nil
}

// LookupNetwork looks up a network of any kind; all are those that project
// may use: its own, shared and public ones.
func (c *Catalogue) LookupNetwork(ctx context.Context, id, project string) (network *Network, all []string, err error) {
	return nil, nil, nil
}

// LookupProject looks up a project.
func (c *Catalogue) LookupProject(ctx context.Context, id string) (project *Project, err error) {
	return nil, nil
}
