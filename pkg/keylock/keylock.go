// SPDX-License-Identifier: Apache-2.0

// Package keylock has locks that are waited for no longer than a context lasts.
package keylock

import (
	"context"
	"sync"
)

// Locks is one lock for each key; the zero value has all free. A lock that is neither held
// nor waited for takes no memory.
type Locks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	held  chan struct{} // holds one token while the lock is held
	users int           // holders of the lock and those that wait for it
}

// Lock returns the function that unlocks the key, or the context's error.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	lock := l.locks[key]
	if lock == nil {
		if l.locks == nil {
			l.locks = map[string]*keyLock{}
		}
		lock = &keyLock{held: make(chan struct{}, 1)}
		l.locks[key] = lock
	}
	lock.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if lock.users--; lock.users == 0 {
			delete(l.locks, key)
		}
	}
	select {
	case lock.held <- struct{}{}:
		return func() { <-lock.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
