// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// crashLoop kills the controller manager and the server in turn until stop
// is called; then both are back. The time between two kills grows by a half
// each time: the first ones come quickly, and however slow the machine is,
// there comes one after which there is time enough.
func crashLoop(t *testing.T, env *environment) (stop func()) {
	t.Helper()
	enough, ended := make(chan struct{}), make(chan struct{})
	aside := &aside{TB: t, ctx: context.WithoutCancel(t.Context())}
	go func() {
		defer close(ended)
		programs := []*cluster.Program{env.ControllerManager, env.Servers[0]}
		life := time.Second
		for i := 0; ; i++ {
			select {
			case <-enough:
				return
			case <-time.After(life):
			}
			programs[i%2].Kill()
			programs[i%2].Start(aside)
			// A server is not ready before it has seen all metal.
			programs[i%2].AwaitReadyWithin(aside, outage+slow)
			life += life / 2
		}
	}()
	halt := sync.OnceFunc(func() {
		close(enough)
		<-ended
	})
	stop = func() {
		t.Helper()
		halt()
		assert.Empty(t, aside.failure)
		aside.failure = ""
	}
	t.Cleanup(stop)
	return stop
}

// aside is a test for a goroutine next to it. Its failure ends the goroutine,
// and is the test's when that asks for it: nobody may fail a test from another
// goroutine, least of all one that is over.
type aside struct {
	testing.TB
	ctx     context.Context
	failure string
}

func (a *aside) Context() context.Context { return a.ctx }

func (a *aside) Helper() {}

func (a *aside) Errorf(format string, args ...any) { a.failure += fmt.Sprintf(format, args...) }

func (a *aside) FailNow() { runtime.Goexit() }

func (a *aside) Fatalf(format string, args ...any) {
	a.Errorf(format, args...)
	a.FailNow()
}
