// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"testing"

	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

func TestDeletion_HasNothingObservedForARecord(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	f := &fakeRefresher{}
	w.SetRefresher(f)
	ctx := WithDeletion(t.Context())
	key := w.pods.testKey("node-1")
	if err := w.pods.Get(ctx, key, apistorage.GetOptions{}, &example.Pod{}); err != nil {
		t.Error(err)
	}
	if scopes := f.takeScopes(); len(scopes) > 0 {
		t.Errorf("observed before a record is deleted: %v", scopes)
	}
	// What a collection deletes is listed first, as any list.
	if err := w.pods.GetList(ctx, "/pods", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}, &example.PodList{}); err != nil {
		t.Error(err)
	}
	if scopes := f.takeScopes(); len(scopes) != 1 {
		t.Errorf("observed for a list: %v", scopes)
	}
	if err := w.pods.Get(t.Context(), key, apistorage.GetOptions{}, &example.Pod{}); err != nil {
		t.Error(err)
	}
	if scopes := f.takeScopes(); len(scopes) != 1 {
		t.Errorf("observed for a get: %v", scopes)
	}
}

// Without a record it is known only by an observation what a name stands for.
func TestDeletion_HasObservedWhatHasNoRecord(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	f := &fakeRefresher{}
	w.SetRefresher(f)
	err := w.pods.Get(WithDeletion(t.Context()), w.pods.testKey("node-1"), apistorage.GetOptions{}, &example.Pod{})
	if !apistorage.IsNotFound(err) {
		t.Error(err)
	}
	if scopes := f.takeScopes(); len(scopes) != 1 {
		t.Errorf("observed: %v", scopes)
	}
}
