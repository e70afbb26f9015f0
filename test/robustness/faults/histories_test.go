package faults_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag      = flag.Uint64("faults.seed", 0, "the seed of the first history; 0: a fresh one")
	historiesFlag = flag.Int("faults.histories", 0, "how many histories are tried; 0: what takes about a minute")
	storyFlag     = flag.Bool("faults.story", false, "tell what happened in every history")
)

// share is how many histories a run tries that does not say.
const share = 40

func TestMain(m *testing.M) {
	flag.Parse()
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
		w := newWorld(t, h.seed, h.servers, breaks{})
		defer w.close()
		w.play(h)
		if wrong := w.check(); len(wrong) > 0 || *storyFlag {
			h.tell(t, w, wrong)
		}
	})
}

// play makes the steps, and comes to rest twice: with everything allocated, and
// with nothing left.
func (w *world) play(h *history) {
	for _, s := range h.steps {
		time.Sleep(time.Until(w.began.Add(s.at)))
		w.note("* %s", s.words)
		s.do(w)
	}
	time.Sleep(pace)
	w.calm()
	w.settle(w.everythingIsAllocated)
	w.settle(w.everythingIsGivenBack)
}

// check asks every invariant, with exceptions.
func (w *world) check(except ...string) (wrong []string) {
	for name, check := range invariants {
		if slices.Contains(except, name) {
			continue
		}
		for _, words := range check(w) {
			wrong = append(wrong, name+": "+words)
		}
	}
	return wrong
}

// tell says what went wrong, what had happened, and how to see it again.
func (h *history) tell(t *testing.T, w *world, wrong []string) {
	t.Log("\n" + w.story())
	for _, words := range wrong {
		t.Error(words)
	}
	t.Logf("with %d servers; once more: go test ./test/robustness/faults -run TestHistories -faults.seed=%d -faults.histories=1", h.servers, h.seed)
}
