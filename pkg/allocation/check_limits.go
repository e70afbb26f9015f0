// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// What checks for objects that do not exist may come to.
const (
	// maxChecks is how many are made at a time, maxNamespaceChecks how many of one namespace.
	maxChecks          = 8
	maxNamespaceChecks = 2
	// maxNamespaceQueue is how many of one namespace are made or wait.
	maxNamespaceQueue = 10
	// checkTimeout is how long one may take, and checkWait how long of that it may wait for
	// others.
	checkTimeout = 10 * time.Second
	checkWait    = 3 * time.Second
)

// checkLimits bound the checks that are made at a time. Those of one namespace cannot keep others
// from theirs.
type checkLimits struct {
	all *semaphore.Weighted

	mu         sync.Mutex
	namespaces map[string]*namespaceChecks
}

// namespaceChecks are those of one namespace that are made or wait.
type namespaceChecks struct {
	slots *semaphore.Weighted
	users int
}

func newCheckLimits() *checkLimits {
	return &checkLimits{all: semaphore.NewWeighted(maxChecks), namespaces: map[string]*namespaceChecks{}}
}

// acquire waits for the turn of a check, and returns what ends it; false if there are too many.
func (l *checkLimits) acquire(ctx context.Context, namespace string) (release func(), ok bool) {
	own, ok := l.join(namespace)
	if !ok {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	if own.slots.Acquire(ctx, 1) != nil {
		l.leave(namespace, own)
		return nil, false
	}
	if l.all.Acquire(ctx, 1) != nil {
		own.slots.Release(1)
		l.leave(namespace, own)
		return nil, false
	}
	return func() {
		l.all.Release(1)
		own.slots.Release(1)
		l.leave(namespace, own)
	}, true
}

func (l *checkLimits) join(namespace string) (own *namespaceChecks, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own = l.namespaces[namespace]
	if own == nil {
		own = &namespaceChecks{slots: semaphore.NewWeighted(maxNamespaceChecks)}
		l.namespaces[namespace] = own
	}
	if own.users == maxNamespaceQueue {
		return nil, false
	}
	own.users++
	return own, true
}

func (l *checkLimits) leave(namespace string, own *namespaceChecks) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(l.namespaces, namespace)
	}
}
