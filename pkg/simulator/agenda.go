// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"container/heap"
	"time"
)

// task is something that happens at a time. While it runs, s.happening is
// that time and the lock is held.
type task struct {
	at  time.Time
	seq uint64
	do  func(now time.Time)
}

// agenda is what is going to happen, in order.
type agenda struct {
	tasks taskHeap
	seq   uint64
}

func (a *agenda) next() (time.Time, bool) {
	if len(a.tasks) == 0 {
		return time.Time{}, false
	}
	return a.tasks[0].at, true
}

// at puts something on the agenda. The caller holds the lock.
func (s *Simulator) at(t time.Time, do func(now time.Time)) {
	s.agenda.seq++
	heap.Push(&s.agenda.tasks, &task{at: t, seq: s.agenda.seq, do: do})
	if s.agenda.tasks[0].seq == s.agenda.seq {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// enter takes the lock and lets everything happen that is due, each thing at
// its own time: whoever looks sees the data centre as it is now, however long
// nobody looked.
func (s *Simulator) enter() {
	s.mu.Lock()
	s.catchUp()
}

// leave also does what was put on the agenda for right now, so that work
// without a delay is done before the next one looks.
func (s *Simulator) leave() {
	s.catchUp()
	s.mu.Unlock()
}

func (s *Simulator) catchUp() int {
	now := s.clock.Now()
	done := 0
	for len(s.agenda.tasks) > 0 && !s.agenda.tasks[0].at.After(now) {
		t := heap.Pop(&s.agenda.tasks).(*task)
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
