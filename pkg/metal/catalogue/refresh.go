// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// refreshable is a list that is shown.
type refreshable interface {
	refresh(ctx context.Context) error
	watch() (stop func())
	isLoaded() bool
}

// listsOf returns the lists that objects of a kind are made of.
func (c *Catalogue) listsOf(kind metal.RefKind) []refreshable {
	switch kind {
	case metal.KindSize:
		return []refreshable{c.sizes, c.constraints}
	case metal.KindImage:
		return []refreshable{c.images}
	case metal.KindPartition:
		return []refreshable{c.partitions, c.reservations}
	case metal.KindProject:
		return []refreshable{c.projects, c.reservations}
	}
	return nil
}

// Loaded reports whether all that objects of a kind are made of was read once, and reported: of
// partitions and projects the reservations, too, and of sizes the constraints with images.
func (c *Catalogue) Loaded(kind metal.RefKind) bool {
	for _, l := range c.listsOf(kind) {
		if !l.isLoaded() || !c.changes.wasReported(l) {
			return false
		}
	}
	return true
}

// ProjectLoaded reports whether one project was read once, and reported, also if the metal-api does
// not know it. What is reserved for it may be missing.
func (c *Catalogue) ProjectLoaded(id string) bool {
	_, at := c.project.cached(id)
	return !at.IsZero() && c.changes.projectWasReported(id) || c.projects.isLoaded() && c.changes.wasReported(c.projects)
}

// Watching keeps the lists that objects of a kind are made of fresh until stop is called, and for a
// while after that.
func (c *Catalogue) Watching(kind metal.RefKind) (stop func()) {
	var stops []func()
	for _, l := range c.listsOf(kind) {
		stops = append(stops, l.watch())
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// Refresh reads the lists again that objects of some kinds are made of, for consistent reads. A
// list that was read within its minimal interval, which is 5 s or a hundred times what it took,
// is not read again; nor, within 1 s to 30 s, one that could not be read. When it returns nil,
// changes were reported. The error is a *metal.StaleError.
//
// Refresh must not be called by what OnChanged has called.
func (c *Catalogue) Refresh(ctx context.Context, kinds ...metal.RefKind) error {
	lists := map[refreshable]bool{}
	for _, kind := range kinds {
		for _, l := range c.listsOf(kind) {
			lists[l] = true
		}
	}
	reads := make([]func(context.Context) error, 0, len(lists))
	for l := range lists {
		reads = append(reads, l.refresh)
	}
	if err := inParallel(ctx, reads...); err != nil {
		return err
	}
	return c.report(ctx)
}

// RefreshProject reads one project with what is used of its quotas, unless that was done within
// the last 3 s, and the reservations as Refresh does. The former counts against the limits of
// look-ups, and at most 5 projects are read in a second. When it returns nil, changes were
// reported; otherwise those of what could be read are. The error is a *metal.StaleError. A project that the metal-api does not know is no
// error.
//
// RefreshProject must not be called by what OnChanged has called.
func (c *Catalogue) RefreshProject(ctx context.Context, id string) error {
	project := func(ctx context.Context) error {
		if _, err := c.project.lookup(ctx, id); err != nil {
			_, at := c.project.cached(id)
			return &metal.StaleError{Since: at, Cause: err}
		}
		return nil
	}
	err := inParallel(ctx, project, c.reservations.refresh)
	// Of the two, what was read is shown without the other.
	if reported := c.report(ctx, id); err == nil {
		err = reported
	}
	return err
}

// inParallel returns the first error in the order of reads.
func inParallel(ctx context.Context, reads ...func(context.Context) error) error {
	errs := make([]error, len(reads))
	var wg sync.WaitGroup
	for i, read := range reads {
		wg.Go(func() { errs[i] = read(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// CurrentReservations returns the reservations as they were within the minimal interval, or an
// error, which is a *metal.StaleError.
func (c *Catalogue) CurrentReservations(ctx context.Context) ([]*metal.Reservation, error) {
	if err := c.reservations.refresh(ctx); err != nil {
		return nil, err
	}
	return c.reservations.all(), nil
}

// CachedReservations returns the reservations without a read, and when those were asked for; zero:
// never.
func (c *Catalogue) CachedReservations() (all []*metal.Reservation, read time.Time) {
	l := c.reservations
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cached, l.loaded
}

// CurrentLayouts returns the layouts of disks as they were within the minimal interval, or an
// error, which is a *metal.StaleError.
func (c *Catalogue) CurrentLayouts(ctx context.Context) ([]*metal.FilesystemLayout, error) {
	if err := c.layouts.refresh(ctx); err != nil {
		return nil, err
	}
	return c.layouts.all(), nil
}

// LookupLayouts returns the layouts of disks, a few minutes old at most unless the metal-api does
// not answer. The error, a *metal.StaleError, says that they were never read.
func (c *Catalogue) LookupLayouts(ctx context.Context) ([]*metal.FilesystemLayout, error) {
	return c.layouts.recent(ctx)
}
