// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

const (
	// encodingsPerObject is how many bytes of encodings are kept for each object that is
	// shown, so that the cost of a list grows no faster than the fleet. A machine takes
	// some 9 kB in both versions, as metadata and as the row of a Table.
	encodingsPerObject = 10 << 10
	// encodingsAtLeast is how many bytes are kept however few objects there are: those of
	// other kinds can be larger.
	encodingsAtLeast = 64 << 20
	// encodingsShare is the part of Go's memory limit that encodings take at most, if it
	// has one: what is left is for what cannot be made anew. That limit is the memory limit
	// of the container (GOMEMLIMIT).
	encodingsShare = 4
	// encodingIdle is how long encodings are kept without being used, at most; at
	// least they are kept for half of it.
	encodingIdle = 5 * time.Minute
	// encodingOverhead is about what an object with encodings takes beside them.
	encodingOverhead = 512
)

// encodingCache keeps the encodings of objects that lists, gets and initial events used
// lately. It has no index: whoever has the object has its encodings, as long as
// something keeps them. So it cannot return encodings of another object or version.
//
// What exceeds its limit is encoded anew for each list: to replace what is kept would keep
// nothing that is still there when a list of everything comes to it again.
type encodingCache struct {
	ctx   context.Context
	clock clock.Clock

	// The limit is perObject for each of the objects, but not below atLeast nor above
	// atMost, which wins.
	perObject, atLeast, atMost int64
	objects                    atomic.Int64 // in all views

	// generation counts the times that older was dropped.
	generation atomic.Uint64

	mu     sync.Mutex
	size   int64
	newer  map[*cachingObject]struct{} // used in this generation
	older  map[*cachingObject]struct{} // used in the last one
	rotate bool                        // a goroutine drops what is older
}

// cacheState is what the cache knows of an object.
type cacheState struct {
	used atomic.Uint64 // the generation that it was used in, plus one
	size int64         // what it counts for; 0 if it is not in the cache. The cache's mu protects it.
}

func newEncodingCache(ctx context.Context, clock clock.Clock) *encodingCache {
	return &encodingCache{
		ctx: ctx, clock: clock,
		perObject: encodingsPerObject, atLeast: encodingsAtLeast, atMost: debug.SetMemoryLimit(-1) / encodingsShare,
		newer: map[*cachingObject]struct{}{}, older: map[*cachingObject]struct{}{},
	}
}

// limit is how many bytes are kept at most. If it falls, what exceeds it is dropped with the
// next generation at the latest.
func (c *encodingCache) limit() int64 {
	return min(max(c.atLeast, c.objects.Load()*c.perObject), c.atMost)
}

// keep keeps an object that was used, if there is room for it; its size may have changed.
func (c *encodingCache) keep(o *cachingObject, sizeChanged bool) {
	if !sizeChanged && o.state.used.Load() == c.generation.Load()+1 {
		return
	}
	size := o.encodings.size() + encodingOverhead
	c.mu.Lock()
	defer c.mu.Unlock()
	o.state.used.Store(c.generation.Load() + 1)
	if !o.kept.Load() || c.size-o.state.size+size > c.limit() {
		c.remove(o)
		return
	}
	c.size += size - o.state.size
	o.state.size = size
	delete(c.older, o)
	c.newer[o] = struct{}{}
	if !c.rotate {
		c.rotate = true
		go c.dropUnused()
	}
}

// drop forgets an object that was replaced or deleted.
func (c *encodingCache) drop(o *cachingObject) {
	if o == nil || !o.kept.CompareAndSwap(true, false) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(o)
}

// remove is drop for those who hold mu.
func (c *encodingCache) remove(o *cachingObject) {
	c.size -= o.state.size
	o.state.size = 0
	delete(c.newer, o)
	delete(c.older, o)
}

// dropUnused drops what was not used in a whole generation, until nothing is left.
func (c *encodingCache) dropUnused() {
	timer := c.clock.NewTimer(encodingIdle / 2)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-c.ctx.Done():
			return
		}
		if !c.nextGeneration() {
			return
		}
		timer.Reset(encodingIdle / 2)
	}
}

// nextGeneration returns whether anything is left.
func (c *encodingCache) nextGeneration() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for o := range c.older {
		c.size -= o.state.size
		o.state.size = 0
	}
	c.older, c.newer = c.newer, map[*cachingObject]struct{}{}
	for o := range c.older {
		if c.size <= c.limit() {
			break
		}
		c.remove(o)
	}
	c.generation.Add(1)
	c.rotate = len(c.older) > 0
	return c.rotate
}

// bytes is how much is kept.
func (c *encodingCache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
