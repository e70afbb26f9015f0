// SPDX-License-Identifier: Apache-2.0

package controller

import "sync"

// namespaceSlots bound how many workload clusters of a namespace are worked on at a time.
type namespaceSlots struct {
	mu    sync.Mutex
	taken map[string]int
}

// take takes a slot of a namespace; false if there is none.
func (s *namespaceSlots) take(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[namespace] >= workloadsOfNamespace {
		return false
	}
	if s.taken == nil {
		s.taken = map[string]int{}
	}
	s.taken[namespace]++
	return true
}

func (s *namespaceSlots) leave(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[namespace]--; s.taken[namespace] == 0 {
		delete(s.taken, namespace)
	}
}
