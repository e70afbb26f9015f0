// SPDX-License-Identifier: Apache-2.0

package client

import (
	"os"
	"sync"
	"time"
)

// wakeupInterval is the time between two wake-ups that are measured.
const wakeupInterval = 5 * time.Millisecond

// wakeupMeter measures, while calls are in flight, how late this process notices that
// something has arrived for it: its goroutines, or all of it, wait for a processor. It
// writes to a pipe every few milliseconds, and reads from it as connections are read.
type wakeupMeter struct {
	mu sync.Mutex
	// calls are those in flight, pipe is read while there are any.
	calls   int
	pipe    *os.File
	wakeups wakeups
}

// wakeups are the last wake-up that was measured, and the next one.
type wakeups struct {
	// due is when something arrives next, or has arrived that was not noticed yet.
	due time.Time
	// noticed is when the last arrival was, and delay how long after it.
	noticed time.Time
	delay   time.Duration
}

// notice notes that what was due was noticed.
func (w *wakeups) notice(now time.Time) {
	w.noticed, w.delay = now, now.Sub(w.due)
	w.due = now.Add(wakeupInterval)
}

// delayOf is how much of a wait was after the arrival of what it was for, as far as is
// known: as much as the last arrival in that time was delayed, or one is by now.
func (w *wakeups) delayOf(began, now time.Time) (delay time.Duration) {
	if w.noticed.After(began) {
		delay = w.delay
	}
	return max(0, min(max(delay, now.Sub(w.due)), now.Sub(began)))
}

// start has wake-ups measured until end is called as often.
func (m *wakeupMeter) start() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls++; m.calls > 1 {
		return
	}
	m.wakeups = wakeups{due: time.Now().Add(wakeupInterval)}
	r, w, err := os.Pipe()
	if err != nil {
		// Without file descriptors no call is answered, either.
		return
	}
	m.pipe = r
	go m.measure(r, w)
}

// end ends what start began.
func (m *wakeupMeter) end() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls--; m.calls == 0 && m.pipe != nil {
		_ = m.pipe.Close()
		m.pipe = nil
	}
}

// measure measures until the pipe is closed.
func (m *wakeupMeter) measure(r, w *os.File) {
	buffer := make([]byte, 1)
	write := time.AfterFunc(wakeupInterval, func() { _, _ = w.Write([]byte{0}) })
	defer func() {
		write.Stop()
		_ = w.Close()
	}()
	for {
		if _, err := r.Read(buffer); err != nil {
			return
		}
		m.mu.Lock()
		if m.pipe != r {
			m.mu.Unlock()
			return
		}
		m.wakeups.notice(time.Now())
		m.mu.Unlock()
		write.Reset(wakeupInterval)
	}
}

// delayOf is the delay of a wait.
func (m *wakeupMeter) delayOf(began, now time.Time) time.Duration {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pipe == nil {
		return 0
	}
	return m.wakeups.delayOf(began, now)
}
