// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// Whoever may write ConfigMaps, or restores a backup, can leave any.
func FuzzConfigMap_ForeignOneIsTheRecordOfItsKeyOrNone(f *testing.F) {
	key := "metalstackmachines/team-a/node-1"
	f.Add(nameOf(key), key, "metalstackmachines", "team-a", "node-1", JSONValue, []byte("{\n \"a\": 1 }"))
	f.Add(nameOf(key), "", "metalstackmachines", "team-a", "node-1", TextValue, []byte("text"))
	f.Add(nameOf(key), "metalstackmachines/team-b/node-1", "", "", "", BinaryValue, []byte{0xff})
	f.Add("record-x", "\xff", "", "", "", "other", []byte(nil))
	f.Fuzz(func(t *testing.T, name, annotation, resource, namespace, object, at string, value []byte) {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{KeyAnnotation: annotation},
			Labels:      map[string]string{RecordLabel: resource, NamespaceLabel: namespace, NameLabel: object},
		}}
		if at == BinaryValue {
			cm.BinaryData = map[string][]byte{at: value}
		} else {
			cm.Data = map[string]string{at: string(value)}
		}
		if key := keyOf(cm); key != "" {
			if err := ledger.CheckKey(key); err != nil || nameOf(key) != name {
				t.Errorf("%q is the key of %q: %v", key, name, err)
			}
		}
		// What can be read can be written, and is read as the same.
		got, err := valueOf(cm)
		if err != nil || len(got) > MaxValueBytes {
			return
		}
		again, err := configMap("ns", "k", got, "w")
		if err != nil {
			t.Fatalf("%.100q can be read, but not written: %v", got, err)
		}
		if back, err := valueOf(again); err != nil || !bytes.Equal(back, got) {
			t.Errorf("%.100q is read back as %.100q: %v", got, back, err)
		}
	})
}

func FuzzConfigMap_KeyRoundTrips(f *testing.F) {
	for _, key := range []string{"metalstackmachines/team-a/node-1", "_meta/revision", "", "/", "///", "A/b/C", "a/b/" + string(bytes.Repeat([]byte("x"), 300)), "ü/ö/ä"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if checkKey(key) != nil {
			return
		}
		cm, err := configMap("ns", key, []byte("{}"), "w")
		if err != nil {
			t.Fatal(err)
		}
		if !nameForm.MatchString(cm.Name) || len(cm.Name) > 253 {
			t.Errorf("%q is no name of a record", cm.Name)
		}
		if got := keyOf(cm); got != key {
			t.Errorf("%q is found as %q", key, got)
		}
	})
}
