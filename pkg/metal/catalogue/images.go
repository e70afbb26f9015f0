// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// newestImages are what aliases stand for, of the images in the cache.
type newestImages struct {
	// changed is called when an alias has come to stand for another image; may be nil.
	changed func()

	mu     sync.Mutex
	of     []*metal.Image
	images metal.NewestImages
}

// LookupImage looks up an image with the feature ("" for any) by its full id,
// or by its alias, which answers the newest; all are the aliases of the images
// with the feature.
func (c *Catalogue) LookupImage(ctx context.Context, id, feature string) (image *metal.Image, all []string, err error) {
	entries, err := c.images.entries(ctx, id, func(entries []*metal.Image) bool { return findImage(entries, id, feature) != nil })
	if found := findImage(entries, id, feature); found != nil {
		return found, nil, nil
	}
	for _, i := range entries {
		if hasFeature(i, feature) && !slices.Contains(all, i.Alias) {
			all = append(all, i.Alias)
		}
	}
	slices.Sort(all)
	return nil, all, err
}

// NewestImage returns the image in the cache that an alias stands for when a machine is
// allocated; nil for any other name. It never asks.
func (c *Catalogue) NewestImage(alias string) *metal.Image {
	c.newest.mu.Lock()
	defer c.newest.mu.Unlock()
	return c.newest.images.Of(alias)
}

// OnNewestImages has f called whenever an alias has come to stand for another image. It is
// to be called before Run and the first lookup. Unlike what OnChanged has called, f may take
// long: no read of the catalogue waits for it.
func (c *Catalogue) OnNewestImages(f func()) { c.newest.changed = f }

// updateNewestImages is called when other images may be in the cache than before.
func (c *Catalogue) updateNewestImages() {
	c.newest.mu.Lock()
	all := c.images.all()
	if same(c.newest.of, all) {
		c.newest.mu.Unlock()
		return
	}
	images := metal.NewNewestImages(all)
	unchanged := maps.EqualFunc(images, c.newest.images, func(a, b *metal.Image) bool {
		return a.ID == b.ID && slices.Equal(a.Features, b.Features)
	})
	c.newest.of, c.newest.images = all, images
	c.newest.mu.Unlock()
	if !unchanged && c.newest.changed != nil {
		c.newest.changed()
	}
}

func hasFeature(i *metal.Image, feature string) bool {
	return feature == "" || slices.Contains(i.Features, feature)
}

func findImage(entries []*metal.Image, id, feature string) (found *metal.Image) {
	for _, i := range entries {
		switch {
		case !hasFeature(i, feature):
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
