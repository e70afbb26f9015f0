// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// catalogueProjector shows what is known elsewhere than in metal.
type catalogueProjector struct {
	Projector
	known *string
}

func (catalogueProjector) Static() {}

func (cp catalogueProjector) Project(record, _ runtime.Object) runtime.Object {
	p := record.(*example.Pod).DeepCopy()
	p.Status.Phase = example.PodPhase(*cp.known)
	return p
}

func TestReprojectResource_ShowsWhatChangedElsewhere(t *testing.T) {
	known := ""
	b := newBackend(t, Options{})
	s := openPods(t, b, "templates", catalogueProjector{fakeProjector{newFakeMetal(), "templates"}, &known})
	start(t, b)
	create(t, s, pod("team-a", "t"))
	watch := watchFrom(t, s, list(t, s, everything()).ResourceVersion)

	known = "12 cores"
	resource := schema.GroupResource{Group: "example.apiserver.k8s.io", Resource: "templates"}
	b.ReprojectResource(resource)
	expectEvents(t, watch, "MODIFIED t 12 cores")
	if p := get(t, s, "t"); p.Status.Phase != "12 cores" {
		t.Errorf("it shows %q", p.Status.Phase)
	}
	b.ReprojectResource(resource)
	expectNoEvent(t, watch)
}

func TestRefresh_IsNotDoneForStaticResources(t *testing.T) {
	known := ""
	b := newBackend(t, Options{})
	s := openPods(t, b, "templates", catalogueProjector{fakeProjector{newFakeMetal(), "templates"}, &known})
	start(t, b)
	create(t, s, pod("team-a", "t"))
	f := &fakeRefresher{}
	b.SetRefresher(f)
	get(t, s, "t")
	list(t, s, everything())
	if err := s.GetList(context.Background(), "/templates/", apistorage.ListOptions{Predicate: everything().Predicate, Recursive: true}, &example.PodList{}); err != nil {
		t.Fatal(err)
	}
	if asked := f.takeScopes(); len(asked) > 0 {
		t.Errorf("looked at %v", asked)
	}
}
