// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"slices"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// What follows is from the cache, ordered by id. None of it asks the metal-api, nor keeps in use a
// list that is read on demand. Lists and their entries must not be changed.

// Sizes returns the sizes in the cache.
func (c *Catalogue) Sizes() []*metal.Size { return c.sizes.all() }

// Images returns the images in the cache.
func (c *Catalogue) Images() []*metal.Image { return c.images.all() }

// Image returns an image in the cache by its full id, or nil.
func (c *Catalogue) Image(id string) *metal.Image { return c.images.get(id) }

// Partitions returns the partitions in the cache.
func (c *Catalogue) Partitions() []*metal.Partition { return c.partitions.all() }

// Partition returns a partition in the cache, or nil.
func (c *Catalogue) Partition(id string) *metal.Partition { return c.partitions.get(id) }

// Reservations returns the reservations in the cache, of all sizes, partitions and projects.
func (c *Catalogue) Reservations() []*metal.Reservation { return c.reservations.all() }

// SizeImageConstraints returns which images sizes are restricted to, from the cache.
func (c *Catalogue) SizeImageConstraints() []*metal.SizeImageConstraint { return c.constraints.all() }

// Projects returns the projects of the list in the cache, with what is used of their quotas as far
// as they were refreshed one by one.
func (c *Catalogue) Projects() []*metal.Project {
	listed := c.projects.all()
	projects := make([]*metal.Project, 0, len(listed))
	for _, p := range listed {
		if p = c.Project(p.ID); p != nil {
			projects = append(projects, p)
		}
	}
	return projects
}

// Project returns a project in the cache, or nil, as the get or the list has shown it that began
// later. What is used of its quotas is known if it was refreshed.
func (c *Catalogue) Project(id string) *metal.Project {
	listed, loaded := c.projects.getAt(id)
	got, at := c.project.cached(id)
	switch {
	case at.IsZero() || at.Before(loaded) && (listed == nil || got == nil):
		return listed
	case got == nil || listed == nil || !at.Before(loaded):
		return got
	}
	merged := *listed
	merged.Machines.Used, merged.Addresses.Used = got.Machines.Used, got.Addresses.Used
	return &merged
}

// find returns the entry with an id of entries that are ordered by it, or nil.
func find[T any](entries []*T, id string, idOf func(*T) string) *T {
	i, found := slices.BinarySearchFunc(entries, id, func(e *T, id string) int { return strings.Compare(idOf(e), id) })
	if !found {
		return nil
	}
	return entries[i]
}
