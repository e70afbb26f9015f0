// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const key = "metalstackmachines/team-a/node-1"

func TestList_LeavesOutOnlyWhatIsCertainlyNoRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm  func(*corev1.ConfigMap)
		kind  damageKind
		value string // of the record that is listed
	}{
		"none":                        {func(*corev1.ConfigMap) {}, "", `{"a":1}`},
		"reformatted":                 {func(cm *corev1.ConfigMap) { cm.Data[JSONValue] = "{ \"a\" :\n\t1}\n" }, "", `{"a":1}`},
		"annotations lost":            {func(cm *corev1.ConfigMap) { cm.Annotations = nil }, "", `{"a":1}`},
		"labels of others":            {func(cm *corev1.ConfigMap) { cm.Labels[NameLabel] = "node-2" }, "", `{"a":1}`},
		"value is no JSON":            {func(cm *corev1.ConfigMap) { cm.Data[JSONValue] = `{"a":1` }, damagedValue, `{"a":1`},
		"value lost":                  {func(cm *corev1.ConfigMap) { cm.Data = map[string]string{"other": "x"} }, damagedValue, ""},
		"annotation and a label lost": {func(cm *corev1.ConfigMap) { cm.Annotations = nil; delete(cm.Labels, NameLabel) }, unknownKey, ""},
		"another key":                 {func(cm *corev1.ConfigMap) { cm.Annotations[KeyAnnotation] += "0"; delete(cm.Labels, NameLabel) }, unknownKey, ""},
		"a copy of it":                {func(cm *corev1.ConfigMap) { cm.Name = "record-copy" }, noRecord, ""},
		"of another client":           {func(cm *corev1.ConfigMap) { cm.Name, cm.Annotations = "settings", nil }, noRecord, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cm := store(t, key, `{"a":1}`)
			cm.UID, cm.ResourceVersion = "u", "7"
			c.harm(cm)
			record, d := read(cm)
			if d == nil && c.kind != "" || d != nil && d.kind != c.kind {
				t.Fatalf("found: %+v", d)
			}
			if c.kind == noRecord || c.kind == unknownKey {
				if !strings.Contains(d.text, "hash") {
					t.Errorf("it says %s", d.text)
				}
				return
			}
			if record.Key != key || string(record.Value) != c.value || record.Version != "u/7" {
				t.Errorf("listed: %+v", record)
			}
		})
	}
}
