// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

func TestMayHaveRecords_CountsRecordsNotDiscoveredMetal(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	if get(t, w.pods, "m1") == nil || w.MayHaveRecords("team-a") {
		t.Error("discovered metal is no record")
	}
	create(t, w.firewalls, managed("zz", "", ""))
	if !w.MayHaveRecords("team-a") {
		t.Error("there is a record")
	}
	for _, other := range []string{"team", "team-b", "team-a-2"} {
		if w.MayHaveRecords(other) {
			t.Errorf("%s has no record", other)
		}
	}
	remove(t, w.firewalls, "zz")
	if w.MayHaveRecords("team-a") {
		t.Error("the record is gone")
	}
}

func TestMayHaveRecords_CountsUncertainWrites(t *testing.T) {
	l := &faulty{Ledger: memory.New()}
	w := newFixture(t, Options{Ledger: l})
	lost := errors.New("lost")
	l.inject(func(verb, _ string) error {
		if verb == "create" || verb == "list" {
			return lost
		}
		return nil
	}, nil)
	if err := w.pods.Create(context.Background(), w.pods.testKey("node-1"), managed("node-1", "", ""), nil, 0); err == nil {
		t.Fatal("created")
	}
	if get(t, w.pods, "node-1") != nil || !w.MayHaveRecords("team-a") {
		t.Error("the record may be there")
	}
}

func TestOldestCreationTime_IgnoresDiscoveredObjects(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	if got := w.OldestCreationTime("team-a"); !got.IsZero() {
		t.Errorf("discovered metal is no record: %s", got)
	}
	first := time.Unix(1e9, 0)
	for name, after := range map[string]time.Duration{"a": time.Hour, "b": 0, "c": time.Minute} {
		obj := managed(name, "", "")
		obj.CreationTimestamp = metav1.NewTime(first.Add(after))
		create(t, w.firewalls, obj)
	}
	if got := w.OldestCreationTime("team-a"); !got.Equal(first) {
		t.Errorf("the oldest is of %s, not %s", first, got)
	}
	if got := w.OldestCreationTime("team"); !got.IsZero() {
		t.Errorf("team has no record: %s", got)
	}
}
