// SPDX-License-Identifier: Apache-2.0

package storage

import "time"

const (
	// snapshotAge is how long a list may be paged through.
	snapshotAge = 5 * time.Minute
	// snapshotCount is how many lists may be paged through at a time. What
	// they cost in memory is what has changed since they began.
	snapshotCount = 64
)

// snapshots keeps the views that continue tokens were handed out for, oldest
// first.
type snapshots struct {
	kept []snapshot
}

type snapshot struct {
	revision uint64
	at       time.Time
	tree     *tree
}

func (s *snapshots) get(revision uint64) *tree {
	for _, snap := range s.kept {
		if snap.revision == revision {
			return snap.tree
		}
	}
	return nil
}

func (s *snapshots) add(revision uint64, t *tree, now time.Time) {
	s.expire(now)
	if s.get(revision) != nil {
		return
	}
	if len(s.kept) == snapshotCount {
		s.drop(1)
	}
	s.kept = append(s.kept, snapshot{revision: revision, at: now, tree: t})
}

func (s *snapshots) expire(now time.Time) {
	n := 0
	for n < len(s.kept) && now.Sub(s.kept[n].at) >= snapshotAge {
		n++
	}
	s.drop(n)
}

// compact forgets the views before revision.
func (s *snapshots) compact(revision uint64) {
	kept := s.kept[:0]
	for _, snap := range s.kept {
		if snap.revision >= revision {
			kept = append(kept, snap)
		}
	}
	clear(s.kept[len(kept):])
	s.kept = kept
}

func (s *snapshots) drop(n int) {
	s.kept = append(s.kept[:0], s.kept[n:]...)
	clear(s.kept[len(s.kept):cap(s.kept)])
}
