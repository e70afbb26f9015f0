// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"sync"
)

// keyLocks serialises the writes of one key and leaves other keys alone.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	held  chan struct{} // holds one token while the lock is held
	users int           // holders of the lock and those that wait for it
}

// lock returns the function that unlocks, or the context's error.
func (l *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
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
