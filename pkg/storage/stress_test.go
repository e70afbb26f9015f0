// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// follower rebuilds what a client would know from a list and a watch.
type follower struct {
	t     *testing.T
	store *Store
	known map[string]string // name to revision and phase
	last  uint64
	seen  []string // events, in words with revisions
}

func describe(p *example.Pod) string {
	return p.ResourceVersion + " " + string(p.Status.Phase) + " " + p.Spec.NodeName
}

func (f *follower) begin() {
	l := list(f.t, f.store, everything())
	f.known = map[string]string{}
	f.last = revision(f.t, l)
	for i := range l.Items {
		f.known[l.Items[i].Name] = describe(&l.Items[i])
	}
}

// until follows the watch until it has shown everything up to a revision,
// which is known at some time.
func (f *follower) until(end func() uint64) {
	opts := withBookmarks(everything())
	opts.ResourceVersion = fmt.Sprint(f.last)
	w, err := f.store.Watch(context.Background(), f.store.prefix, opts)
	if err != nil {
		f.t.Error(err)
		return
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		p, ok := objectOf(e).(*example.Pod)
		if !ok {
			f.t.Errorf("the watch ended: %s", describeEvent(e))
			return
		}
		if !f.apply(e, p) || f.last >= end() {
			return
		}
	}
}

func (f *follower) apply(e watch.Event, p *example.Pod) bool {
	at := revision(f.t, p)
	if e.Type == watch.Bookmark {
		if at < f.last {
			f.t.Errorf("bookmark %d after event %d", at, f.last)
			return false
		}
		f.last = at
		return true
	}
	if at <= f.last {
		f.t.Errorf("event %d after %d", at, f.last)
		return false
	}
	f.last = at
	f.seen = append(f.seen, fmt.Sprintf("%s %s %s", e.Type, p.Name, describe(p)))
	_, known := f.known[p.Name]
	if known == (e.Type == watch.Added) {
		f.t.Errorf("%s of %s, which was known: %v", e.Type, p.Name, known)
		return false
	}
	if e.Type == watch.Deleted {
		delete(f.known, p.Name)
	} else {
		f.known[p.Name] = describe(p)
	}
	return true
}

// TestStress_WatchesAgreeWithLists lets writers and observations run
// against each other, over two resources that refer to each other's metal.
func TestStress_WatchesAgreeWithLists(t *testing.T) {
	w := newFixture(t, Options{BookmarkInterval: 5 * time.Millisecond, History: 1 << 16})
	start := list(t, w.pods, everything())
	startWalls := list(t, w.firewalls, everything())

	var work, watchers sync.WaitGroup
	done := make(chan struct{})
	stores := []*Store{w.pods, w.firewalls}
	var followers []*follower
	var end atomic.Uint64
	var writes atomic.Int64
	end.Store(math.MaxUint64)
	for i := range 8 {
		f := &follower{t: t, store: stores[i%2]}
		followers = append(followers, f)
		watchers.Go(func() {
			for writes.Load() < int64(50*i) { // some begin in the middle of it
				<-w.advanced.wait()
			}
			f.begin()
			f.until(end.Load)
		})
	}
	for writer := range 4 {
		work.Go(func() { writeRandomly(t, stores, writer, 150, &writes) })
	}
	for range 2 {
		work.Go(func() { observeRandomly(w, 600) })
	}
	work.Go(func() {
		for range 5 {
			w.ReprojectAll()
		}
	})
	go func() {
		for { // pages are consistent while all this goes on
			select {
			case <-done:
				return
			default:
				pageThrough(t, w.pods)
			}
		}
	}()
	work.Wait()
	close(done)
	// A last change, so that watchers know when they have seen everything.
	create(t, w.pods, managed("last", "", ""))
	end.Store(revision(t, create(t, w.firewalls, managed("last", "", ""))))
	watchers.Wait()

	for i, f := range followers {
		shown := map[string]string{}
		for _, p := range list(t, f.store, everything()).Items {
			shown[p.Name] = describe(&p)
		}
		if diff := cmp.Diff(shown, f.known); diff != "" {
			t.Errorf("follower %d: %s", i, diff)
		}
	}
	checkResumed(t, w.pods, start, end.Load())
	checkResumed(t, w.firewalls, startWalls, end.Load())
	checkReferences(t, w)
}

// checkResumed: a watch that is resumed sees the same history.
func checkResumed(t *testing.T, s *Store, start *example.PodList, end uint64) {
	t.Helper()
	whole := &follower{t: t, store: s, known: map[string]string{}, last: revision(t, start)}
	whole.until(func() uint64 { return end })
	parts := &follower{t: t, store: s, known: map[string]string{}, last: revision(t, start)}
	first := parts.last
	for part := uint64(1); part <= 4; part++ {
		parts.until(func() uint64 { return first + (end-first)*part/4 })
	}
	if diff := cmp.Diff(whole.seen, parts.seen); diff != "" {
		t.Error(diff)
	}
	t.Logf("%s: %d events", s.resource.Resource, len(whole.seen))
}

// checkReferences: metal is shown as discovered if and only if no record refers to it.
func checkReferences(t *testing.T, w *fixture) {
	t.Helper()
	referenced := map[string]bool{}
	discovered := map[string]bool{}
	for _, s := range []*Store{w.pods, w.firewalls} {
		for _, p := range list(t, s, everything()).Items {
			if p.Labels["discovered"] == "true" {
				discovered[p.Name] = true
			}
			referenced[p.Spec.NodeName] = true
		}
	}
	for id, f := range w.metal.facts {
		want := !referenced[id+"/"+f.allocation] && f.allocation != ""
		if discovered[id] != want {
			t.Errorf("%s/%s is discovered: %v, referenced: %v", id, f.allocation, discovered[id], referenced[id+"/"+f.allocation])
		}
	}
}

const stressMachines = 6

func randomAllocation() string {
	id := rand.IntN(stressMachines)
	return fmt.Sprintf("m%d/m%d-a%d", id, id, rand.IntN(2))
}

func writeRandomly(t *testing.T, stores []*Store, writer, rounds int, writes *atomic.Int64) {
	for range rounds {
		writes.Add(1)
		s := stores[rand.IntN(2)]
		name := fmt.Sprintf("node-%d", rand.IntN(5))
		var err error
		switch rand.IntN(4) {
		case 0:
			p := managed(name, "", "")
			p.UID, p.Spec.NodeName = "", randomAllocation()
			err = s.Create(context.Background(), s.testKey(name), p, nil, 0)
		case 1, 2:
			err = tryUpdatePod(s, name, &example.Pod{}, func(p *example.Pod) {
				p.Generation++
				p.Spec.NodeName = randomAllocation()
			})
		case 3:
			err = tryRemove(s, name, &example.Pod{})
		}
		if err != nil && !apistorage.IsExist(err) && !apistorage.IsNotFound(err) {
			t.Errorf("writer %d: %v", writer, err)
		}
	}
}

func observeRandomly(w *fixture, rounds int) {
	for i := range rounds {
		id := fmt.Sprintf("m%d", rand.IntN(stressMachines))
		w.metal.set(id, fact{
			namespace: "team-a", role: []string{"pods", "walls"}[rand.IntN(2)],
			phase: fmt.Sprint(i), allocation: []string{"", id + "-a0", id + "-a1"}[rand.IntN(3)],
		})
		w.MetalChanged([]metal.Ref{machineRef(id)})
	}
	for i := range stressMachines {
		w.MetalChanged([]metal.Ref{machineRef(fmt.Sprintf("m%d", i))})
	}
}

func pageThrough(t *testing.T, s *Store) {
	opts := paged(2, "")
	revisions := map[string]bool{}
	for {
		l := &example.PodList{}
		err := s.GetList(context.Background(), s.prefix, opts, l)
		if err != nil && !apierrors.IsResourceExpired(err) {
			t.Errorf("page: %v", err)
		}
		revisions[l.ResourceVersion] = true
		if opts.Predicate.Continue = l.Continue; l.Continue == "" {
			break
		}
	}
	if len(revisions) > 1 {
		t.Errorf("one list was answered at %d revisions", len(revisions))
	}
}
