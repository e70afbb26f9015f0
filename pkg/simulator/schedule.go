// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"container/heap"
	"time"
)

// task is something that is done at a time. While it runs, s.happening is
// that time and the lock is held.
type task struct {
	at  time.Time
	seq uint64
	do  func(now time.Time)
}

// schedule is the tasks that are not done yet, in order.
type schedule struct {
	tasks taskHeap
	seq   uint64
}

func (s *schedule) next() (time.Time, bool) {
	if len(s.tasks) == 0 {
		return time.Time{}, false
	}
	return s.tasks[0].at, true
}

// at schedules a task. The caller holds the lock.
func (s *Simulator) at(t time.Time, do func(now time.Time)) {
	s.schedule.seq++
	heap.Push(&s.schedule.tasks, &task{at: t, seq: s.schedule.seq, do: do})
	if s.schedule.tasks[0].seq == s.schedule.seq {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// lock takes the lock and runs every task that is due, each at
// its own time: a caller reads the data centre as it is now, however long ago the
// last call was.
func (s *Simulator) lock() {
	s.mu.Lock()
	s.catchUp()
}

// unlock also runs what was scheduled for right now, so that work
// without a delay is done before the next call.
func (s *Simulator) unlock() {
	s.catchUp()
	s.mu.Unlock()
}

func (s *Simulator) catchUp() int {
	now := s.clock.Now()
	done := 0
	for len(s.schedule.tasks) > 0 && !s.schedule.tasks[0].at.After(now) {
		t := heap.Pop(&s.schedule.tasks).(*task)
		t.do(t.at)
		done++
	}
	return done
}

// sleep waits on the simulator's clock, whatever the caller's caller does.
func (s *Simulator) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := s.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-s.closed:
	}
}

type taskHeap []*task

func (h taskHeap) Len() int { return len(h) }
func (h taskHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h taskHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *taskHeap) Push(x any)   { *h = append(*h, x.(*task)) }
func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
