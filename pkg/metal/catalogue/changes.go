// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// changes reports what has changed in the cache.
type changes struct {
	// turn is held by the one who reports: reports are in order, one at a time.
	turn   chan struct{}
	listen func(refs []metal.Ref) // may be nil
	shown  func() bool            // may be nil

	mu sync.Mutex
	// next is the report that waits for its turn, nil if none does, and reportedAt when the last
	// one began that is over.
	next       *report
	reportedAt time.Time
	// lists and ids are the lists and the projects that were reported once after they were read.
	lists map[refreshable]struct{}
	ids   map[string]struct{}

	// What was reported last; used in turn.
	sizes        []*metal.Size
	constraints  []*metal.SizeImageConstraint
	images       []*metal.Image
	partitions   []*metal.Partition
	reservations []*metal.Reservation
	listed       []*metal.Project
	projects     map[string]*metal.Project
}

// report is one that has not begun yet, or one that is under way.
type report struct {
	// projects are those to report on that are in no list.
	projects []string
	done     chan struct{}
}

func newChanges() changes {
	return changes{turn: make(chan struct{}, 1), projects: map[string]*metal.Project{}, lists: map[refreshable]struct{}{}, ids: map[string]struct{}{}}
}

// OnChanged has f called with the sizes, images, partitions and projects that have changed in the
// cache, or of which something has changed that they are shown with: constraints, reservations,
// and which image is the newest of its alias. Calls are in order, one at a time, and may ask the
// catalogue for what is cached. It is to be called before Run and the first lookup.
func (c *Catalogue) OnChanged(f func(refs []metal.Ref)) { c.changes.listen = f }

// WithShown sets what reports whether that which OnChanged has called with is shown; default: it
// is. If it is not, Loaded and ProjectLoaded stay as they are.
func (c *Catalogue) WithShown(shown func() bool) *Catalogue {
	c.changes.shown = shown
	return c
}

// report reports what has changed since the last report; of projects that are in no list those
// that are named. The error is a *metal.StaleError: the report was not over in time. It then goes
// on.
func (c *Catalogue) report(ctx context.Context, projects ...string) error {
	reported := c.beginReport(projects...)
	late := c.clock.NewTimer(lookupTimeout)
	defer late.Stop()
	var cause error
	select {
	case <-reported:
		return nil
	case <-ctx.Done():
		cause = ctx.Err()
	case <-late.C():
		cause = metal.ErrTimeout
	}
	c.changes.mu.Lock()
	defer c.changes.mu.Unlock()
	return &metal.StaleError{Since: c.changes.reportedAt, Cause: cause}
}

// beginReport begins a report, or joins the one that waits for its turn. What it returns is
// closed when that is over.
func (c *Catalogue) beginReport(projects ...string) (reported <-chan struct{}) {
	r := &c.changes
	r.mu.Lock()
	defer r.mu.Unlock()
	if next := r.next; next != nil {
		next.projects = append(next.projects, projects...)
		return next.done
	}
	next := &report{projects: projects, done: make(chan struct{})}
	if r.listen == nil {
		close(next.done)
		return next.done
	}
	r.next = next
	go func() {
		defer close(next.done)
		r.turn <- struct{}{}
		defer func() { <-r.turn }()
		r.mu.Lock()
		r.next = nil
		began := c.clock.Now()
		r.mu.Unlock()
		slices.Sort(next.projects)
		lists, ids := c.loaded(next.projects)
		if refs := c.changedRefs(slices.Compact(next.projects)); len(refs) > 0 {
			r.listen(refs)
		}
		if r.shown != nil && !r.shown() {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reportedAt = began
		for _, l := range lists {
			r.lists[l] = struct{}{}
		}
		for _, id := range ids {
			r.ids[id] = struct{}{}
		}
	}()
	return next.done
}

// loaded returns the lists that were read, and which of some projects.
func (c *Catalogue) loaded(projects []string) (lists []refreshable, ids []string) {
	for _, l := range []refreshable{c.sizes, c.constraints, c.images, c.partitions, c.reservations, c.projects} {
		if l.isLoaded() {
			lists = append(lists, l)
		}
	}
	for _, id := range projects {
		if _, at := c.project.cached(id); !at.IsZero() {
			ids = append(ids, id)
		}
	}
	return lists, ids
}

// wasReported returns whether a list was reported since it was read first; true if nothing listens.
func (r *changes) wasReported(l refreshable) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, reported := r.lists[l]
	return reported || r.listen == nil
}

// projectWasReported is wasReported for one project.
func (r *changes) projectWasReported(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, reported := r.ids[id]
	return reported || r.listen == nil
}

// changedRefs returns what has changed since it was called last.
func (c *Catalogue) changedRefs(projects []string) []metal.Ref {
	r := &c.changes
	var changed refs
	sizes, constraints := c.sizes.all(), c.constraints.all()
	for _, id := range changedIDs(r.sizes, sizes, c.sizes.id) {
		changed.add(metal.KindSize, id)
	}
	for _, id := range changedIDs(r.constraints, constraints, c.constraints.id) {
		changed.add(metal.KindSize, id)
	}
	// Whoever is called is to know what aliases stand for.
	c.updateNewestImages()
	images := c.images.all()
	for _, id := range changedIDs(r.images, images, c.images.id) {
		changed.add(metal.KindImage, id)
	}
	for _, id := range changedNewest(r.images, images) {
		changed.add(metal.KindImage, id)
	}
	partitions := c.partitions.all()
	for _, id := range changedIDs(r.partitions, partitions, c.partitions.id) {
		changed.add(metal.KindPartition, id)
	}
	reservations := c.reservations.all()
	for _, id := range changedIDs(r.reservations, reservations, c.reservations.id) {
		for _, list := range [][]*metal.Reservation{r.reservations, reservations} {
			if reservation := find(list, id, c.reservations.id); reservation != nil {
				changed.add(metal.KindProject, reservation.Project)
				for _, partition := range reservation.Partitions {
					changed.add(metal.KindPartition, partition)
				}
			}
		}
	}
	listed := c.projects.all()
	for _, id := range changedIDs(r.listed, listed, c.projects.id) {
		changed.add(metal.KindProject, id)
		r.projects[id] = c.Project(id)
	}
	for _, id := range projects {
		p := c.Project(id)
		if !reflect.DeepEqual(r.projects[id], p) {
			changed.add(metal.KindProject, id)
		}
		r.projects[id] = p
	}
	r.sizes, r.constraints, r.images, r.partitions, r.reservations, r.listed = sizes, constraints, images, partitions, reservations, listed
	return changed.list
}

// refs are a set of refs in the order in which they were added.
type refs struct {
	list []metal.Ref
	has  map[metal.Ref]bool
}

func (r *refs) add(kind metal.RefKind, id string) {
	ref := metal.Ref{Kind: kind, ID: id}
	if id == "" || r.has[ref] {
		return
	}
	if r.has == nil {
		r.has = map[metal.Ref]bool{}
	}
	r.has[ref] = true
	r.list = append(r.list, ref)
}

// changedIDs returns the ids of entries that are in one list only, or differ. Lists are ordered by
// id.
func changedIDs[T any](before, after []*T, id func(*T) string) (changed []string) {
	if same(before, after) {
		return nil
	}
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && id(before[0]) < id(after[0]):
			changed = append(changed, id(before[0]))
			before = before[1:]
		case len(before) == 0 || id(after[0]) < id(before[0]):
			changed = append(changed, id(after[0]))
			after = after[1:]
		default:
			if !reflect.DeepEqual(before[0], after[0]) {
				changed = append(changed, id(after[0]))
			}
			before, after = before[1:], after[1:]
		}
	}
	return changed
}

// same reports whether a list is one and the same: what is read again without a change keeps what
// was cached.
func same[T any](a, b []*T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// changedNewest returns the ids of images that have become the newest of their alias, or ceased to
// be.
func changedNewest(before, after []*metal.Image) (changed []string) {
	if same(before, after) {
		return nil
	}
	older, newer := metal.NewNewestImages(before), metal.NewNewestImages(after)
	for release, image := range newer {
		if older[release] == nil || older[release].ID != image.ID {
			changed = append(changed, image.ID)
		}
	}
	for release, image := range older {
		if newer[release] == nil || newer[release].ID != image.ID {
			changed = append(changed, image.ID)
		}
	}
	return changed
}
