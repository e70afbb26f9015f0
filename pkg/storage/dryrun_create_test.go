// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"testing"

	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

func TestDryRunCreate_HasNothingObserved(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	f := &fakeRefresher{}
	w.SetRefresher(f)
	ctx := WithDryRunCreate(t.Context())
	get := func(name string) error {
		return w.pods.Get(ctx, w.pods.testKey(name), apistorage.GetOptions{}, &example.Pod{})
	}
	if err := get("node-1"); err != nil {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := get("node-2"); !apistorage.IsNotFound(err) {
		t.Errorf("a name that is free: %v", err)
	}
	if scopes := f.takeScopes(); len(scopes) > 0 {
		t.Errorf("observed: %v", scopes)
	}
}
