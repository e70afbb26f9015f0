// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

func store(t testing.TB, key, value string) *corev1.ConfigMap {
	t.Helper()
	cm, err := configMap("system", key, []byte(value), "w")
	if err != nil {
		t.Fatal(err)
	}
	return cm
}

// A change of these makes every record that is out there unreadable.
func TestConfigMapName_NeverChanges(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"metalstackmachines/team-a/node-1": "record-metalstackmachines-team-a-node-1-049f5b2a3dff27ee14d6985a34f3a13d",
		"_meta/revision":                   "record-meta-revision-04edd34e4bb91968163bb6c84097fbb1",
		"/":                                "record-8a5edab282632443219e051e4ade2d1d",
	} {
		if got := nameOf(key); got != want {
			t.Errorf("%s is in %s, not in %s", key, got, want)
		}
	}
}

func TestConfigMapName_IsUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, key := range []string{
		"a/b", "a-b", "a/B", "A/b", "a//b", "/a/b/", "_", "-", "Ä/ö", "a.b/c", "a/b.c",
		strings.Repeat("k", ledger.MaxKeyBytes), strings.Repeat("k", ledger.MaxKeyBytes-1), strings.Repeat("-", ledger.MaxKeyBytes), strings.Repeat("a/", ledger.MaxKeyBytes/2),
	} {
		name := nameOf(key)
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			t.Errorf("%s is no name: %v", name, problems)
		}
		if !nameForm.MatchString(name) {
			t.Errorf("%s is not taken for the name of a record", name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %q are both in %s", key, other, name)
		}
		seen[name] = key
		if got := keyOf(store(t, key, "")); got != key {
			t.Errorf("%q is read back as %q", key, got)
		}
	}
}

func TestCheckKey_RefusesInvalidUTF8(t *testing.T) {
	t.Parallel()
	if err := checkKey("a/\xff"); !errors.Is(err, ledger.ErrNotWritten) {
		t.Errorf("answered %v", err)
	}
}

func TestLabels_AreThePartsOfTheKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", validation.LabelValueMaxLength+1)
	for key, want := range map[string][3]string{
		"metalstackmachines/team-a/node-1":  {"metalstackmachines", "team-a", "node-1"},
		"metalstackmachines/team-a/" + long: {"metalstackmachines", "team-a", ""},
		"_meta/revision":                    {},
	} {
		l := store(t, key, "{}").Labels
		if got := [3]string{l[RecordLabel], l[NamespaceLabel], l[NameLabel]}; got != want {
			t.Errorf("%s: %v", key, got)
		}
		if _, found := l[RecordLabel]; !found {
			t.Errorf("%s is not labelled", key)
		}
	}
}

func FuzzConfigMap_ValueRoundTrips(f *testing.F) {
	for _, value := range []string{
		"", "\n", "{}", "[]", `{"object":{"kind":"MetalStackMachine","n":1e3,"s":"<&>\u2028","e":[],"o":{}}}`, "{\"a\":\n1}\n",
		`{"a":1} `, `"text"`, "null", "plain", "\xff\x00", "\x00", `{"a":"` + strings.Repeat("ä", 1000) + `"}`, "{", `{"a":1}{"b":2}`,
		strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		cm := store(t, "a/b", string(value))
		got, err := valueOf(cm)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%.200q is read back as %.200q, %v", value, got, err)
		}
		size := 0
		for _, stored := range cm.Data {
			if !utf8.ValidString(stored) {
				t.Errorf("%.200q is stored as text", stored)
			}
			size += len(stored)
		}
		for _, stored := range cm.BinaryData {
			size += len(stored)
		}
		if size > MaxValueBytes {
			t.Errorf("%d bytes are stored", size)
		}
	})
}

func TestConfigMap_IndentsThreeLevelsOfJSON(t *testing.T) {
	t.Parallel()
	cm := store(t, "a/b", `{"object":{"kind":"X","n":[1,"]\"},"],"e":{},"f":[],"metadata":{"name":"x","labels":{"a":"b","c":[{}]}}},"m":[]}`)
	want := `{
  "object": {
    "kind": "X",
    "n": [
      1,
      "]\"},"
    ],
    "e": {},
    "f": [],
    "metadata": {
      "name": "x",
      "labels": {"a":"b","c":[{}]}
    }
  },
  "m": []
}`
	if got := cm.Data[JSONValue]; got != want {
		t.Errorf("stored: %s", got)
	}
}

func TestConfigMap_StoresLargeJSONUnchanged(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		strings.Repeat(`["]}\"",`, 1000) + "[]" + strings.Repeat("]", 1000): JSONValue,
		`"` + strings.Repeat("[", maxIndented-2) + `"`:                      JSONValue,
		`"` + strings.Repeat("[", maxIndented-1) + `"`:                      TextValue,
		// A line for every number is more than fits.
		"[[[" + strings.Repeat("1,", maxIndented/2-8) + "1]]]": TextValue,
	} {
		cm := store(t, "a/b", value)
		if _, found := cm.Data[want]; !found {
			t.Errorf("%.30s is not in %s", value, want)
		}
		if got, err := valueOf(cm); err != nil || string(got) != value {
			t.Errorf("%.30s is read back as %.30s, %v", value, got, err)
		}
	}
}

func TestConfigMap_LimitsTheSizeOfValues(t *testing.T) {
	t.Parallel()
	largest := `{"a":[` + strings.TrimSuffix(strings.Repeat("1,", (MaxValueBytes-8)/2), ",") + `]}`
	largest += strings.Repeat(" ", MaxValueBytes-len(largest))
	if got := store(t, "a/b", largest).Data[TextValue]; got != largest {
		t.Errorf("stored: %.60s", got)
	}
	_, err := configMap("system", "a/b", []byte(largest+" "), "w")
	if !errors.Is(err, ledger.ErrTooLarge) || !errors.Is(err, ledger.ErrNotWritten) || !strings.Contains(err.Error(), "1048577 bytes") || !strings.Contains(err.Error(), "limit of a ConfigMap, 1048576 bytes") {
		t.Errorf("answered %v", err)
	}
}
