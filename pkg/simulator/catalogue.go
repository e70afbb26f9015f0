// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// catalogue is what operators keep: it changes seldom, and as a whole.
type catalogue struct {
	partitions   map[string]*wire.Partition
	sizes        map[string]*wire.Size
	images       map[string]*wire.Image
	layouts      []*wire.FilesystemLayout
	reservations []*wire.SizeReservation
	constraints  []*wire.SizeImageConstraint
	switches     []*wire.Switch
	// hardware of machines, by size
	hardware map[string]SizeHardware

	partitionIDs, sizeIDs, imageIDs []string
}

// changed is a copy to change.
func (c *catalogue) copy() *catalogue {
	n := *c
	n.partitions, n.sizes, n.images = maps.Clone(c.partitions), maps.Clone(c.sizes), maps.Clone(c.images)
	n.hardware = maps.Clone(c.hardware)
	n.partitionIDs, n.sizeIDs, n.imageIDs = slices.Clone(c.partitionIDs), slices.Clone(c.sizeIDs), slices.Clone(c.imageIDs)
	n.reservations, n.constraints = slices.Clone(c.reservations), slices.Clone(c.constraints)
	return &n
}

// one and many answer from the catalogue.
func one[T any](s *Simulator, c *call, what string, in func(*catalogue) map[string]T) (int, any, error) {
	s.lock()
	defer s.unlock()
	id := c.param(0)
	if c.down(backendRethinkDB) {
		return 0, nil, fmt.Errorf("cannot find %s with id %q in database: %s", what, id, rethinkdbDown)
	}
	v, ok := in(s.cat)[id]
	if !ok {
		return 0, nil, notFound("no %s with id %q found", what, id)
	}
	return http.StatusOK, v, nil
}

func many[T any](s *Simulator, c *call, what string, list func(*catalogue) []T) (int, any, error) {
	s.lock()
	defer s.unlock()
	if c.down(backendRethinkDB) {
		return 0, nil, fmt.Errorf("cannot list %s from database: %s", what, rethinkdbDown)
	}
	l := list(s.cat)
	if l == nil {
		l = []T{}
	}
	return http.StatusOK, l, nil
}

func byIDs[T any](ids []string, m map[string]T) []T {
	l := make([]T, 0, len(ids))
	for _, id := range ids {
		l = append(l, m[id])
	}
	return l
}

func (s *Simulator) partitionGet(c *call) (int, any, error) {
	return one(s, c, "partition", func(k *catalogue) map[string]*wire.Partition { return k.partitions })
}

func (s *Simulator) partitionList(c *call) (int, any, error) {
	return many(s, c, "partitions", func(k *catalogue) []*wire.Partition { return byIDs(k.partitionIDs, k.partitions) })
}

func (s *Simulator) sizeGet(c *call) (int, any, error) {
	return one(s, c, "size", func(k *catalogue) map[string]*wire.Size { return k.sizes })
}

func (s *Simulator) sizeList(c *call) (int, any, error) {
	return many(s, c, "sizes", func(k *catalogue) []*wire.Size { return byIDs(k.sizeIDs, k.sizes) })
}

func (s *Simulator) imageGet(c *call) (int, any, error) {
	return one(s, c, "image", func(k *catalogue) map[string]*wire.Image { return k.images })
}

func (s *Simulator) imageList(c *call) (int, any, error) {
	usage, err := c.showsUsage()
	if err != nil {
		return 0, nil, err
	}
	return many(s, c, "images", func(k *catalogue) []*wire.Image {
		l := byIDs(k.imageIDs, k.images)
		if usage {
			s.fillUsage(l)
		}
		return l
	})
}

// showsUsage is whether images are to say which machines use them (2/192-197).
func (c *call) showsUsage() (bool, error) {
	said := c.query("show-usage")
	if said == "" {
		return false, nil
	}
	usage, err := strconv.ParseBool(said)
	if err != nil {
		return false, badRequest(err)
	}
	return usage, nil
}

// fillUsage puts copies of images that say which machines use them in their place.
func (s *Simulator) fillUsage(images []*wire.Image) {
	used := map[string][]string{}
	for _, n := range s.order {
		if n.m != nil && n.m.alloc != nil {
			used[n.m.alloc.image] = append(used[n.m.alloc.image], n.m.id)
		}
	}
	for i, img := range images {
		copied := *img
		copied.UsedBy = used[img.ID]
		images[i] = &copied
	}
}

func (s *Simulator) layoutList(c *call) (int, any, error) {
	return many(s, c, "filesystemlayouts", func(k *catalogue) []*wire.FilesystemLayout { return k.layouts })
}

func (s *Simulator) layoutGet(c *call) (int, any, error) {
	return one(s, c, "filesystemlayout", func(k *catalogue) map[string]*wire.FilesystemLayout {
		m := map[string]*wire.FilesystemLayout{}
		for _, l := range k.layouts {
			m[l.ID] = l
		}
		return m
	})
}

func (s *Simulator) switchList(c *call) (int, any, error) {
	return many(s, c, "switches", func(k *catalogue) []*wire.Switch { return k.switches })
}

func (s *Simulator) imageFind(c *call) (int, any, error) {
	q, err := decode[wire.ImageFindRequest](c)
	if err != nil {
		return 0, nil, err
	}
	usage, err := c.showsUsage()
	if err != nil {
		return 0, nil, err
	}
	return many(s, c, "images", func(k *catalogue) []*wire.Image {
		l := []*wire.Image{}
		for _, i := range byIDs(k.imageIDs, k.images) {
			os, version, err := osAndVersion(i.ID)
			if err != nil {
				continue
			}
			if !is(q.ID, i.ID) || !is(q.Name, i.Name) || !is(q.OS, os) || !is(q.Version, version.String()) || !is(q.Classification, i.Classification) {
				continue
			}
			if slices.ContainsFunc(q.Features, func(f string) bool { return !slices.Contains(i.Features, f) }) {
				continue
			}
			l = append(l, i)
		}
		if usage {
			s.fillUsage(l)
		}
		return l
	})
}

func (s *Simulator) imageLatest(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	i, err := s.resolveImage(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, i, nil
}

// imageQuery lists all images that an id can mean; the newest of them is what
// imageLatest answers.
func (s *Simulator) imageQuery(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	found, err := s.imagesFor(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, found, nil
}

func (s *Simulator) imageDelete(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	id := c.param(0)
	i, ok := s.cat.images[id]
	if !ok {
		return 0, nil, notFound("no image with id %q found", id)
	}
	var machines []string
	for _, n := range s.order {
		if n.m != nil && n.m.alloc != nil && n.m.alloc.image == id {
			machines = append(machines, n.m.id)
		}
	}
	if len(machines) > 0 {
		return 0, nil, fmt.Errorf("image %s is in use by machines:%v", id, machines)
	}
	next := s.cat.copy()
	delete(next.images, id)
	next.imageIDs = slices.DeleteFunc(next.imageIDs, func(o string) bool { return o == id })
	s.cat = next
	return http.StatusOK, i, nil
}

// resolveImage finds the newest image for an id, of which the patch level may
// be missing (032, 034, 170, 171).
func (s *Simulator) resolveImage(c *call, id string) (*wire.Image, error) {
	if c.down(backendRethinkDB) {
		return nil, errors.New("cannot list images from database: " + rethinkdbDown)
	}
	os, want, err := osAndVersion(id)
	if err != nil {
		return nil, notFound("no image for id:%s found:%v", id, err)
	}
	var best *wire.Image
	var newest semver.Version
	for _, i := range s.cat.matching(os, want) {
		if _, v, err := osAndVersion(i.ID); err == nil && (best == nil || v.GT(newest)) {
			best, newest = i, v
		}
	}
	if best == nil {
		return nil, notFound("no image for id:%s found:no image for os:%s version:%s found", id, os, want)
	}
	return best, nil
}

// imagesFor is all images that an id can mean (2/174-186).
func (s *Simulator) imagesFor(c *call, id string) ([]*wire.Image, error) {
	if c.down(backendRethinkDB) {
		return nil, errors.New("cannot list images from database: " + rethinkdbDown)
	}
	os, want, err := osAndVersion(id)
	if err != nil {
		return nil, notFound("no images for id:%s found:%v", id, err)
	}
	return s.cat.matching(os, want), nil
}

// matching is the images of an operating system in a version, of which the patch
// level may be missing.
func (c *catalogue) matching(os string, want semver.Version) []*wire.Image {
	found := []*wire.Image{}
	for _, i := range byIDs(c.imageIDs, c.images) {
		o, v, err := osAndVersion(i.ID)
		if err != nil || o != os || v.Major != want.Major || v.Minor != want.Minor || want.Patch > 0 && v.Patch != want.Patch {
			continue
		}
		found = append(found, i)
	}
	return found
}

// osAndVersion takes os-major.minor[.patch] apart.
func osAndVersion(id string) (string, semver.Version, error) {
	i := strings.LastIndex(id, "-")
	if i < 0 {
		return "", semver.Version{}, fmt.Errorf("invalid format for os image, expected <os>-<major>.<minor>[.<patch>]: %s", id)
	}
	// leading zeros, as in 24.04, are no obstacle
	v, err := semver.ParseTolerant(id[i+1:])
	if err != nil {
		return "", semver.Version{}, fmt.Errorf("invalid format for os image, expected <os>-<major>.<minor>[.<patch>]: %s", id)
	}
	return id[:i], v, nil
}

// layoutFor is the first layout made for a size and an image.
func (s *Simulator) layoutFor(size, image string) (*wire.FilesystemLayout, error) {
	os, v, err := osAndVersion(image)
	if err == nil {
		for _, l := range s.cat.layouts {
			constraint, ok := l.Constraints.Images[os]
			if !ok || !slices.Contains(l.Constraints.Sizes, size) {
				continue
			}
			if versions, err := parseVersions(constraint); err == nil && versions.include(v) {
				return l, nil
			}
		}
	}
	return nil, fmt.Errorf("could not find a matching filesystemLayout for size:%s and image:%s", size, image)
}
