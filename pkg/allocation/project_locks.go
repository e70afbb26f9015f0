// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"sync"
)

// projectLocks are locks of projects that are waited for no longer than a context lasts.
type projectLocks struct {
	mu    sync.Mutex
	locks map[string]*projectLock
}

// projectLock is held by whoever has put a value into held.
type projectLock struct {
	held chan struct{}
	// users hold it, or wait for it.
	users int
}

func newProjectLocks() *projectLocks { return &projectLocks{locks: map[string]*projectLock{}} }

// lock returns what unlocks the project again.
func (l *projectLocks) lock(ctx context.Context, project string) (unlock func(), err error) {
	l.mu.Lock()
	lock := l.locks[project]
	if lock == nil {
		lock = &projectLock{held: make(chan struct{}, 1)}
		l.locks[project] = lock
	}
	lock.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if lock.users--; lock.users == 0 {
			delete(l.locks, project)
		}
	}
	select {
	case lock.held <- struct{}{}:
		return func() {
			<-lock.held
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
