// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// objectHistory is what clients were answered about one object.
type objectHistory struct {
	resource, name string
	// marks are the annotations of which the write was acknowledged.
	marks []string
	// marked: its deletion was acknowledged; ended: so was the end of its last
	// finalizer.
	marked, ended bool
	// shown and missed are when a list ended that showed it, and a later one
	// that did not; 0: never.
	shown, missed int
}

// journal is all that was answered to clients, and what contradicts itself in
// it.
type journal struct {
	mu      sync.Mutex
	now     int // counts answers and questions
	high    uint64
	objects map[types.UID]*objectHistory
	// asked are the objects whose deletion a client asked for, and when.
	asked map[types.UID]time.Time
	// adopted are the allocations that another client made, and a record names.
	adopted map[string]adoption
	// writes are the revisions of acknowledged writes.
	writes map[uint64]string
	// wrong are the contradictions.
	wrong []string
}

func newJournal() *journal {
	return &journal{objects: map[types.UID]*objectHistory{}, asked: map[types.UID]time.Time{}, adopted: map[string]adoption{}, writes: map[uint64]string{}}
}

// mayGo reports whether a client had asked for the deletion of an object by then.
func (j *journal) mayGo(uid types.UID, at time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	asked := j.asked[uid]
	return !asked.IsZero() && !asked.After(at)
}

// complain notes a contradiction.
func (j *journal) complain(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wrong = append(j.wrong, fmt.Sprintf(format, args...))
}

func (j *journal) complaints() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.wrong...)
}

// question is what had been answered when a request was sent.
type question struct {
	at   int
	high uint64
	// known are the objects that had been acknowledged, as they had been.
	known map[types.UID]objectHistory
}

func (j *journal) ask() question {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now++
	q := question{at: j.now, high: j.high, known: make(map[types.UID]objectHistory, len(j.objects))}
	for uid, l := range j.objects {
		q.known[uid] = *l
	}
	return q
}

// answered takes in the revision of an answer, and checks it: see
// revisionsOnlyGoUp.
func (j *journal) answered(q question, what, resourceVersion string, write bool) {
	revision, err := strconv.ParseUint(resourceVersion, 10, 64)
	switch {
	case err != nil:
		j.wrong = append(j.wrong, fmt.Sprintf("%s has the revision %q", what, resourceVersion))
		return
	case write && revision <= q.high:
		j.wrong = append(j.wrong, fmt.Sprintf("%s got the revision %d after %d had been answered", what, revision, q.high))
	case !write && revision < q.high:
		j.wrong = append(j.wrong, fmt.Sprintf("%s is of the revision %d after %d had been answered", what, revision, q.high))
	}
	if write {
		if other := j.writes[revision]; other != "" {
			j.wrong = append(j.wrong, fmt.Sprintf("%s and %s got the revision %d", other, what, revision))
		}
		j.writes[revision] = what
	}
	j.high = max(j.high, revision)
}

func (j *journal) created(q question, resource string, obj metav1.Object) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now++
	j.answered(q, "the creation of "+obj.GetName(), obj.GetResourceVersion(), true)
	j.objects[obj.GetUID()] = &objectHistory{resource: resource, name: obj.GetName()}
}

func (j *journal) patched(q question, mark string, obj metav1.Object) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now++
	j.answered(q, "the patch "+mark+" of "+obj.GetName(), obj.GetResourceVersion(), true)
	if l := j.objects[obj.GetUID()]; l != nil {
		l.marks = append(l.marks, mark)
	}
}

// deleting notes that a client asks for a deletion, and returns what notes that
// it was acknowledged.
func (j *journal) deleting(uid types.UID) (acknowledged func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.asked[uid].IsZero() {
		j.asked[uid] = time.Now()
	}
	return func() { j.set(uid, func(l *objectHistory) { l.marked = true }) }
}

// ended notes that the last finalizer was taken off.
func (j *journal) ended(uid types.UID) { j.set(uid, func(l *objectHistory) { l.ended = true }) }

func (j *journal) set(uid types.UID, change func(*objectHistory)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.objects[uid]; l != nil {
		change(l)
	}
}

// listed takes in a list, and checks it against all that had been answered when
// it was asked for: see everyAcknowledgedWriteIsThere and nothingComesBack.
func (j *journal) listed(q question, resource string, list runtime.Object) {
	m, err := meta.ListAccessor(list)
	if err != nil {
		j.complain("%s: %v", resource, err)
		return
	}
	shown := map[types.UID]metav1.Object{}
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		if obj := item.(metav1.Object); managed(item) {
			shown[obj.GetUID()] = obj
		}
		return nil
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now++
	what := fmt.Sprintf("the list of %s at %s", resource, m.GetResourceVersion())
	j.answered(q, what, m.GetResourceVersion(), false)
	j.wrong = append(j.wrong, j.missing(q, what, resource, shown)...)
	for uid, l := range j.objects {
		_, there := shown[uid]
		switch {
		case l.resource != resource:
		case there && l.missed != 0 && l.missed < q.at:
			j.wrong = append(j.wrong, fmt.Sprintf("%s shows %s again, which an earlier one did not", what, l.name))
		case there:
			l.shown = max(l.shown, j.now)
		case l.missed == 0 && l.shown != 0 && l.shown < q.at:
			l.missed = j.now
		}
	}
}

// missing is what a list should show, and does not, or the other way round.
func (j *journal) missing(q question, what, resource string, shown map[types.UID]metav1.Object) (wrong []string) {
	for uid, l := range q.known {
		if l.resource != resource {
			continue
		}
		obj, there := shown[uid]
		switch {
		case !there && j.asked[uid].IsZero():
			wrong = append(wrong, fmt.Sprintf("%s lacks %s, which was created and never deleted", what, l.name))
		case there && l.ended:
			wrong = append(wrong, fmt.Sprintf("%s shows %s, which had ended", what, l.name))
		case there && l.marked && obj.GetDeletionTimestamp() == nil:
			wrong = append(wrong, fmt.Sprintf("%s shows %s, which had been deleted, as if it had not", what, l.name))
		}
		for _, mark := range l.marks {
			if there && obj.GetAnnotations()[mark] == "" {
				wrong = append(wrong, fmt.Sprintf("%s shows %s without %s", what, l.name, mark))
			}
		}
	}
	return wrong
}

// managed is whether an object has a record.
func managed(obj runtime.Object) bool {
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		return o.Status.Metal.Managed
	case *infrastructure.MetalStackFirewall:
		return o.Status.Metal.Managed
	}
	return true
}
