// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag      = flag.Uint64("faults.seed", 0, "the seed of the first history; 0: a fresh one")
	historiesFlag = flag.Int("faults.histories", 0, "how many histories are tried; 0: the number of a run of all tests")
	storyFlag     = flag.Bool("faults.story", false, "log what happened in every history")
)

// share is how many histories a run tries that does not say.
const share = 20

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // environments are short-lived, and small
	searchLogs()
	os.Exit(m.Run())
}

func TestHistories(t *testing.T) {
	first, count := *seedFlag, *historiesFlag
	if first == 0 {
		first = rand.Uint64()
	}
	if count == 0 {
		count = share
	}
	t.Logf("seed %d, %d histories", first, count)
	var next atomic.Uint64
	var workers sync.WaitGroup
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !t.Failed() {
				i := next.Add(1) - 1
				if i >= uint64(count) {
					return
				}
				t.Run(fmt.Sprint(first+i), func(t *testing.T) { newHistory(first + i).run(t) })
			}
		})
	}
	workers.Wait()
	t.Logf("%d histories in %v", min(next.Load(), uint64(count)), time.Since(began).Round(time.Second))
}

// run plays a history in a bubble, lets everything come to rest, gives all of
// it back, and checks the invariants.
func (h *history) run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := newEnvironment(t, h.seed, historySetup(h.servers), breaks{})
		defer env.close()
		env.play(h)
		if wrong := env.check(); len(wrong) > 0 || *storyFlag {
			h.report(t, env, wrong)
		}
	})
}

// play makes the steps, and comes to rest twice: with everything allocated, and
// with nothing left.
func (env *environment) play(h *history) {
	for _, s := range h.steps {
		time.Sleep(time.Until(env.began.Add(s.at)))
		env.note("* %s", s.words)
		s.do(env)
	}
	time.Sleep(pace)
	env.stopFaults()
	env.eventually(env.everythingIsAllocated)
	env.eventually(env.everythingIsGivenBack)
}

// check asks every invariant, with exceptions.
func (env *environment) check(except ...string) (wrong []string) {
	for name, check := range invariants {
		if slices.Contains(except, name) {
			continue
		}
		for _, words := range check(env) {
			wrong = append(wrong, name+": "+words)
		}
	}
	return wrong
}

// report says what went wrong, what had happened, and how to see it again.
func (h *history) report(t *testing.T, env *environment, wrong []string) {
	t.Log("\n" + env.story())
	for _, words := range wrong {
		t.Error(words)
	}
	t.Logf("with %d servers; once more: go test ./test/robustness/faults -run TestHistories -faults.seed=%d -faults.histories=1", h.servers, h.seed)
}
