// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/component-base/metrics/legacyregistry"
)

func TestMetrics_CountObjectsWatchesAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newFixture(t, Options{})
		others := &collector{backends: map[*Backend]struct{}{w.Backend: {}}}
		create(t, w.pods, managed("node-1", "m1", "a1"))
		create(t, w.pods, managed("node-2", "", ""))
		w.observe("m2", fact{namespace: "team-a", role: "pods", phase: "Installing", allocation: "a2"})
		if _, err := w.pods.Watch(ctx, "/pods", everything()); err != nil {
			t.Fatal(err)
		}
		w.pods.markUncertain(w.pods.testKey("node-1"), nil)
		got := others.collect()["pods"]
		want := stats{managed: 2, discovered: 1, watches: 1, events: 3, uncertain: 1}
		if got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
	})
	if families, err := legacyregistry.DefaultGatherer.Gather(); err != nil {
		t.Error(err)
	} else {
		var names []string
		for _, f := range families {
			names = append(names, f.GetName())
		}
		if !strings.Contains(strings.Join(names, " "), "metalstack_storage_commits_total") {
			t.Errorf("gathered: %v", names)
		}
	}
}
