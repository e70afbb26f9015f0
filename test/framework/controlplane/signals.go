// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// reapTimeout is how long the programs may take to be gone after SIGKILL.
const reapTimeout = 5 * time.Second

// live are the control planes that run.
var live struct {
	sync.Mutex
	planes map[*ControlPlane]bool
}

func (c *ControlPlane) setLive(yes bool) {
	live.Lock()
	defer live.Unlock()
	if live.planes == nil {
		live.planes = map[*ControlPlane]bool{}
	}
	if live.planes[c] = yes; !yes {
		delete(live.planes, c)
	}
}

// endOnSignal ends everything when the process is interrupted or terminated, and then
// the process. Programs that the kernel kills after it would be left for init to reap,
// and the directories would stay.
func endOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		received := <-signals
		signal.Stop(signals) // another one ends the process at once
		fmt.Fprintf(os.Stderr, "%s: all programs are ended\n", received)
		killChildren(reapTimeout)
		live.Lock()
		planes := slices.Collect(maps.Keys(live.planes))
		live.Unlock()
		for _, c := range planes {
			c.stop()
		}
		os.Exit(1)
	}()
}
