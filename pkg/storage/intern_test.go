// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"sigs.k8s.io/randfill"
)

// labelledPod has metadata that all objects of a fleet have in common.
func labelledPod(name string) *example.Pod {
	p := managed(name, "", "")
	p.Labels = map[string]string{"cluster": "c"}
	p.Annotations = map[string]string{"cloned-from": "workers"}
	p.Finalizers = []string{"example.com/finalizer"}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "manager", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:cluster":{}}}}`),
	}}
	return p
}

func TestStart_ObjectsShareMetadataThatIsEqual(t *testing.T) {
	before := newFixture(t, Options{})
	create(t, before.pods, labelledPod("node-1"))
	create(t, before.pods, labelledPod("node-2"))
	w := openFixture(t, before.metal, Options{Ledger: before.ledger})
	start(t, w.Backend)
	first, second := get(t, w.pods, "node-1"), get(t, w.pods, "node-2")
	require.Equal(t, labelledPod("").Labels, first.Labels)
	require.Equal(t, labelledPod("").ManagedFields, first.ManagedFields)
	view := func(name string) *example.Pod { return w.pods.view.get(w.pods.testKey(name)).obj.(*example.Pod) }
	require.Same(t, view("node-1").ManagedFields[0].FieldsV1, view("node-2").ManagedFields[0].FieldsV1)
	require.Equal(t, reflect.ValueOf(view("node-1").Labels).Pointer(), reflect.ValueOf(view("node-2").Labels).Pointer())

	update(t, w.pods, "node-1", func(p *example.Pod) {
		p.Labels["cluster"], p.Annotations["cloned-from"], p.Finalizers[0] = "other", "other", "example.com/other"
		p.ManagedFields[0].Manager = "other"
		p.ManagedFields[0].FieldsV1.SetRawString(`{"f:spec":{}}`)
	})
	require.Equal(t, "other", get(t, w.pods, "node-1").Labels["cluster"])
	require.Equal(t, second, get(t, w.pods, "node-2"))
}

func TestInterner_ChangesNothing(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(0.2).NumElements(0, 3).Funcs(
		func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawString(`{"f:` + c.String(0) + `":{}}`) },
		func(*runtime.RawExtension, randfill.Continue) {},
	)
	interned := newInterner()
	for range 100 {
		var m metav1.ObjectMeta
		fill.Fill(&m)
		pod := &example.Pod{ObjectMeta: *m.DeepCopy()}
		interned.intern(pod)
		interned.intern(pod)
		require.Equal(t, m, pod.ObjectMeta)
	}
}
