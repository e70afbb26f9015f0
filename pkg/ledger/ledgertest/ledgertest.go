// SPDX-License-Identifier: Apache-2.0

// Package ledgertest is the contract of a ledger as a test: every
// implementation passes Run.
package ledgertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sort"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// LargeValue is the size of value that every ledger takes.
const LargeValue = 2 << 20

// Harness makes the ledgers under test.
type Harness struct {
	// New returns an empty ledger.
	New func(t *testing.T) ledger.Ledger
	// Reopen returns what a new process finds of l, which is not used any
	// more; nil if the implementation does not outlive its process.
	Reopen func(t *testing.T, l ledger.Ledger) ledger.Ledger
	// MaxValue is the largest value that the ledger takes, LargeValue if zero.
	MaxValue int
}

// Run runs the contract.
func Run(t *testing.T, h Harness) {
	if h.MaxValue == 0 {
		h.MaxValue = LargeValue
	}
	for name, test := range map[string]func(*testing.T, Harness){
		"ListIsInKeyOrder":                       listIsInKeyOrder,
		"GetReturnsWhatListDoes":                 getReturnsWhatListDoes,
		"CreateRefusesATakenKey":                 createRefusesATakenKey,
		"CreateRefusesAKeyThatIsTooLong":         createRefusesAKeyThatIsTooLong,
		"UpdateSwapsOnlyTheNamedVersion":         updateSwapsOnlyTheNamedVersion,
		"DeleteRemovesOnlyTheNamedVersion":       deleteRemovesOnlyTheNamedVersion,
		"NoVersionStandsForTwoStates":            noVersionStandsForTwoStates,
		"NoVersionStandsForTwoStatesOverRestart": noVersionStandsForTwoStatesOverRestart,
		"RecordsSurviveARestart":                 recordsSurviveARestart,
		"OfSwapsAtOneVersionExactlyOneWins":      ofSwapsAtOneVersionExactlyOneWins,
		"OfCreatesOfOneKeyExactlyOneWins":        ofCreatesOfOneKeyExactlyOneWins,
		"ACancelledContextEndsTheCall":           aCancelledContextEndsTheCall,
		"LargeAndEmptyValuesAreKept":             largeAndEmptyValuesAreKept,
		"ValuesAreCopies":                        valuesAreCopies,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

func listIsInKeyOrder(t *testing.T, h Harness) {
	ctx, l := t.Context(), h.New(t)
	keys := []string{"machines/b/2", "machines/a/1", "_meta/revision", "machines/a-b/1", "clusters/z/z", "machines/a/10"}
	want := []ledger.Record{}
	for _, key := range keys {
		want = append(want, ledger.Record{Key: key, Value: []byte(key + " value"), Version: create(t, l, key, key+" value")})
	}
	sort.Slice(want, func(i, j int) bool { return want[i].Key < want[j].Key })
	got, err := l.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func getReturnsWhatListDoes(t *testing.T, h Harness) {
	ctx, l := t.Context(), h.New(t)
	if r, err := l.Get(ctx, "a/b"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Get of a key that is free answered %v, %v", r, err)
	}
	first := create(t, l, "a/b", "first")
	gone := create(t, l, "a/c", "gone")
	if _, err := l.Update(ctx, "a/b", first, []byte("second")); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(ctx, "a/c", gone); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Get(ctx, "a/c"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Get of a deleted record answered %v, %v", r, err)
	}
	list, err := l.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Get(ctx, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, []ledger.Record{got}); diff != "" {
		t.Error(diff)
	}
}

func createRefusesATakenKey(t *testing.T, h Harness) {
	l := h.New(t)
	version := create(t, l, "a/b", "first")
	if _, err := l.Create(t.Context(), "a/b", []byte("second")); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("Create answered %v", err)
	}
	expect(t, l, "a/b", "first", version)
}

func createRefusesAKeyThatIsTooLong(t *testing.T, h Harness) {
	l := h.New(t)
	longest := string(bytes.Repeat([]byte("k"), ledger.MaxKeyBytes))
	create(t, l, longest, "fits")
	for _, key := range []string{"", longest + "k"} {
		if _, err := l.Create(t.Context(), key, nil); err == nil {
			t.Errorf("a key of %d bytes was taken", len(key))
		}
	}
}

func updateSwapsOnlyTheNamedVersion(t *testing.T, h Harness) {
	ctx, l := t.Context(), h.New(t)
	first := create(t, l, "a/b", "first")
	if _, err := l.Update(ctx, "a/none", first, []byte("x")); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Update of a key that is not there answered %v", err)
	}
	second, err := l.Update(ctx, "a/b", first, []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Update(ctx, "a/b", first, []byte("late")); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("Update at an old version answered %v", err)
	}
	expect(t, l, "a/b", "second", second)
}

func deleteRemovesOnlyTheNamedVersion(t *testing.T, h Harness) {
	ctx, l := t.Context(), h.New(t)
	first := create(t, l, "a/b", "first")
	second, err := l.Update(ctx, "a/b", first, []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(ctx, "a/none", first); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Delete of a key that is not there answered %v", err)
	}
	if err := l.Delete(ctx, "a/b", first); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("Delete at an old version answered %v", err)
	}
	if err := l.Delete(ctx, "a/b", second); err != nil {
		t.Error(err)
	}
	if err := l.Delete(ctx, "a/b", second); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a second Delete answered %v", err)
	}
}

func noVersionStandsForTwoStates(t *testing.T, h Harness) {
	l := h.New(t)
	seen := map[string]int{}
	for i := range 20 {
		lifecycle(t, l, seen, i)
	}
}

func noVersionStandsForTwoStatesOverRestart(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("does not outlive its process")
	}
	l := h.New(t)
	seen := map[string]int{}
	for i := range 4 {
		lifecycle(t, l, seen, i)
		l = h.Reopen(t, l)
	}
}

// lifecycle creates, updates and deletes a key, and notes the versions.
func lifecycle(t *testing.T, l ledger.Ledger, seen map[string]int, round int) {
	t.Helper()
	version := create(t, l, "a/b", "same value every time")
	note := func() {
		if earlier, found := seen[version]; found {
			t.Fatalf("version %q of round %d was used in round %d already", version, round, earlier)
		}
		seen[version] = round
	}
	note()
	next, err := l.Update(t.Context(), "a/b", version, []byte("same value every time"))
	if err != nil {
		t.Fatal(err)
	}
	version = next
	note()
	if err := l.Delete(t.Context(), "a/b", version); err != nil {
		t.Fatal(err)
	}
}

func recordsSurviveARestart(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("does not outlive its process")
	}
	ctx, l := t.Context(), h.New(t)
	version := create(t, l, "a/kept", "kept")
	gone := create(t, l, "a/gone", "gone")
	if err := l.Delete(ctx, "a/gone", gone); err != nil {
		t.Fatal(err)
	}
	l = h.Reopen(t, l)
	list, err := l.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []ledger.Record{{Key: "a/kept", Value: []byte("kept"), Version: version}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if _, err := l.Update(ctx, "a/kept", version, []byte("still swappable")); err != nil {
		t.Error(err)
	}
}

func ofSwapsAtOneVersionExactlyOneWins(t *testing.T, h Harness) {
	const rounds, contenders = 10, 8
	ctx, l := t.Context(), h.New(t)
	version := create(t, l, "a/b", "start")
	for round := range rounds {
		won := contend(t, contenders, ledger.ErrConflict, func(i int) (string, error) {
			return l.Update(ctx, "a/b", version, fmt.Appendf(nil, "%d/%d", round, i))
		})
		version = won.version
		expect(t, l, "a/b", fmt.Sprintf("%d/%d", round, won.contender), version)
	}
}

func ofCreatesOfOneKeyExactlyOneWins(t *testing.T, h Harness) {
	const rounds, contenders = 10, 8
	ctx, l := t.Context(), h.New(t)
	for round := range rounds {
		key := fmt.Sprintf("a/%d", round)
		won := contend(t, contenders, ledger.ErrExists, func(i int) (string, error) {
			return l.Create(ctx, key, fmt.Append(nil, i))
		})
		expect(t, l, key, fmt.Sprint(won.contender), won.version)
	}
}

type winner struct {
	contender int
	version   string
}

func contend(t *testing.T, contenders int, refusal error, try func(i int) (string, error)) winner {
	t.Helper()
	var wg sync.WaitGroup
	won := make(chan winner, contenders)
	for i := range contenders {
		wg.Go(func() {
			version, err := try(i)
			switch {
			case err == nil:
				won <- winner{i, version}
			case !errors.Is(err, refusal):
				t.Errorf("contender %d was answered %v", i, err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of %d contenders won", len(won), contenders)
	}
	return <-won
}

func aCancelledContextEndsTheCall(t *testing.T, h Harness) {
	l := h.New(t)
	version := create(t, l, "a/b", "first")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, createErr := l.Create(ctx, "a/c", []byte("x"))
	_, updateErr := l.Update(ctx, "a/b", version, []byte("x"))
	_, listErr := l.List(ctx)
	_, getErr := l.Get(ctx, "a/b")
	for verb, err := range map[string]error{"Create": createErr, "Update": updateErr, "List": listErr, "Get": getErr, "Delete": l.Delete(ctx, "a/b", version)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s answered %v", verb, err)
		}
	}
	expect(t, l, "a/b", "first", version)
}

func largeAndEmptyValuesAreKept(t *testing.T, h Harness) {
	l := h.New(t)
	large := make([]byte, h.MaxValue)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{string(large), "", "\n", "{\"a\":\n1}\n"} {
		key := fmt.Sprintf("a/%d", len(value))
		expect(t, l, key, value, create(t, l, key, value))
		if h.Reopen != nil {
			l = h.Reopen(t, l)
			expect(t, l, key, value, "")
		}
	}
}

func valuesAreCopies(t *testing.T, h Harness) {
	l := h.New(t)
	value := []byte("first")
	version, err := l.Create(t.Context(), "a/b", value)
	if err != nil {
		t.Fatal(err)
	}
	copy(value, "XXXXX")
	list, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	copy(list[0].Value, "YYYYY")
	expect(t, l, "a/b", "first", version)
}

func create(t *testing.T, l ledger.Ledger, key, value string) string {
	t.Helper()
	version, err := l.Create(t.Context(), key, []byte(value))
	if err != nil {
		t.Fatalf("Create %.60s: %v", key, err)
	}
	if version == "" {
		t.Fatalf("Create %.60s: no version", key)
	}
	return version
}

// expect checks a record; an empty version stands for any.
func expect(t *testing.T, l ledger.Ledger, key, value, version string) {
	t.Helper()
	list, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Key != key {
			continue
		}
		if string(r.Value) != value {
			t.Errorf("%s is %.60q, not %.60q", key, r.Value, value)
		}
		if version != "" && r.Version != version {
			t.Errorf("%s is at version %q, not %q", key, r.Version, version)
		}
		return
	}
	t.Errorf("%s is not there", key)
}
