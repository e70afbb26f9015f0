package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	codec  = codecs.LegacyCodec(examplev1.SchemeGroupVersion)
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// stoppedClock always shows the same time, and its timers run: so revisions go
// up by one, as the suites expect it.
type stoppedClock struct {
	clock.RealClock
	at time.Time
}

func (c stoppedClock) Now() time.Time { return c.at }

func (c stoppedClock) Since(t time.Time) time.Duration { return c.at.Sub(t) }

var epoch = stoppedClock{at: time.UnixMicro(1)}

func newBackend(t testing.TB, opts Options) *Backend {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if opts.Ledger == nil {
		opts.Ledger = memory.New()
	}
	b, err := NewBackend(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func podConfig(resource string, joiner Joiner) ResourceConfig {
	return ResourceConfig{
		Resource:    schema.GroupResource{Group: "example.apiserver.k8s.io", Resource: resource},
		Prefix:      "/" + resource + "/",
		Codec:       codec,
		NewFunc:     func() runtime.Object { return &example.Pod{} },
		NewListFunc: func() runtime.Object { return &example.PodList{} },
		Joiner:      joiner,
	}
}

func openPods(t testing.TB, b *Backend, resource string, joiner Joiner) *Store {
	t.Helper()
	s, err := b.Open(podConfig(resource, joiner))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recordOf returns what the ledger has.
func recordOf(t testing.TB, l ledger.Ledger, key string) *ledger.Record {
	t.Helper()
	list, err := l.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r, found := byKey(list)[key]; found {
		return &r
	}
	return nil
}

func pod(namespace, name string) *example.Pod {
	return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func podKey(p *example.Pod) string { return fmt.Sprintf("/pods/%s/%s", p.Namespace, p.Name) }
