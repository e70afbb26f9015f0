// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"io"

	"k8s.io/apimachinery/pkg/runtime"
)

// Listing is the items of a list, or the object of a get, as shared objects, which keep
// their encodings.
type Listing struct{ objects []*cachingObject }

type listingKey struct{}

// WithListing makes GetList put the items into the Listing, and none into the list
// that it fills, and Get its object. It comes with the context, because that is all that
// reaches the storage through the registry.
func WithListing(ctx context.Context) (context.Context, *Listing) {
	l := &Listing{}
	return context.WithValue(ctx, listingKey{}, l), l
}

func listingOf(ctx context.Context) *Listing {
	l, _ := ctx.Value(listingKey{}).(*Listing)
	return l
}

// Len is how many items there are.
func (l *Listing) Len() int { return len(l.objects) }

// Object returns an item, which must not be changed.
func (l *Listing) Object(i int) runtime.Object { return l.objects[i].object }

// Cacheable returns an item as a runtime.CacheableObject, which keeps its encodings.
func (l *Listing) Cacheable(i int) runtime.Object { return l.objects[i] }

// Encoding returns an item in the form that id identifies; encode encodes it if it was
// not encoded in that form before. The result must not be changed.
func (l *Listing) Encoding(i int, id runtime.Identifier, encode func(runtime.Object, io.Writer) error) ([]byte, error) {
	return l.objects[i].encoding(id, encode)
}

// AppendTo appends the items to a list.
func (l *Listing) AppendTo(list runtime.Object) error {
	items, err := newItems(list)
	if err != nil {
		return err
	}
	items.slice.Grow(len(l.objects))
	for _, o := range l.objects {
		if err := items.append(o.object); err != nil {
			return err
		}
	}
	items.finish()
	return nil
}
