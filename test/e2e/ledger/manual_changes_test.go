// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
)

const value = `{"object":{"kind":"MetalStackMachine","metadata":{"name":"node-1","namespace":"team-a"},"spec":{"image":"ubuntu-24.04"}}}`

// kubectl runs as an administrator in the environment's namespace.
func (env *environment) kubectl(args ...string) string {
	env.t.Helper()
	stdout, stderr, err := env.plane.Kubectl(env.t, env.plane.Admin(), append([]string{"-n", env.namespace}, args...)...)
	require.NoError(env.t, err, stderr)
	return stdout
}

func (env *environment) patch(name, patch string) {
	env.t.Helper()
	_, err := env.configMaps.Patch(env.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(env.t, err)
}

func TestRecord_IsReadableByPeople(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	env.create(l, key, value)
	env.create(l, "metalstackclusters/team-a/orchid", value)
	env.create(l, "metalstackmachines/team-b/node-1", value)
	env.create(l, "_meta/revision", `{"reserved":1}`)

	label := func(name string) string { return kubernetes.RecordLabel + name }
	require.Equal(t, 4, strings.Count(env.kubectl("get", "configmaps", "-o", "name", "-l", label("")), "\n"))
	out := env.kubectl("get", "configmaps", "-o", "yaml", "-l", label("=metalstackmachines")+","+label("-namespace=team-a")+","+label("-name=node-1"))
	for _, line := range []string{
		kubernetes.KeyAnnotation + ": " + key,
		"record.json: |-",
		`        "image": "ubuntu-24.04"`,
	} {
		require.Contains(t, out, line)
	}
	require.NotContains(t, out, "team-b")
}

func TestUpdate_RemovesManagedFields(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	version := env.create(l, key, value)
	for i := range 2 {
		var err error
		version, err = l.Update(t.Context(), key, version, fmt.Appendf(nil, `{"update":%d}`, i))
		require.NoError(t, err)
		require.Empty(t, env.configMapOf(key).ManagedFields, "the record has no second writer, so managed fields cost CPU and memory for nothing")
	}
}

func TestRecord_ManualRepairIsRead(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	version := env.create(l, key, value)
	env.patch(env.configMapOf(key).Name, `{"data":{"record.json":"{\n  \"object\": {\"kind\": \"Repaired\"}\n}\n"}}`)
	r := env.recordOf(key)
	require.JSONEq(t, `{"object":{"kind":"Repaired"}}`, string(r.Value))
	require.NotContains(t, string(r.Value), " ", "spaces are for readers")
	_, err := l.Update(t.Context(), key, version, []byte(value))
	require.ErrorIs(t, err, ledger.ErrConflict)
	_, err = l.Update(t.Context(), key, r.Version, []byte(value))
	require.NoError(t, err)
	env.expect(key, value, env.recordOf(key).Version)
}

func TestConfigMaps_OfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	for name, labels := range map[string]map[string]string{"settings": nil, "labelled": {kubernetes.RecordLabel: "metalstackmachines"}} {
		_, err := env.configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	require.Empty(t, env.list(env.ledger(nil)))
}

func TestRecord_DamagedIsNeverMissing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	env.create(l, key, value)
	env.create(l, "metalstackmachines/team-a/node-2", value)
	name := env.configMapOf(key).Name

	env.patch(name, `{"data":{"record.json":"{\"object"}}`)
	require.Equal(t, `{"object`, string(env.recordOf(key).Value), "whoever knows what records mean refuses it")
	env.patch(name, `{"data":null}`)
	require.Empty(t, env.recordOf(key).Value)
	env.patch(name, `{"metadata":{"annotations":null}}`)
	require.NotNil(t, env.recordOf(key), "the labels and the name say whose it is")

	env.patch(name, `{"metadata":{"labels":{"`+kubernetes.NameLabel+`":null}}}`)
	_, err := l.List(t.Context())
	require.ErrorContains(t, err, env.namespace+"/"+name)
	command := "label configmap -n " + env.namespace + " " + name + " " + kubernetes.RecordLabel + "-"
	require.ErrorContains(t, err, "kubectl "+command)

	// An administrator decides, with the command from the message.
	env.kubectl(strings.Fields(command)...)
	require.Len(t, env.list(l), 1)
	_, err = l.Create(t.Context(), key, []byte(value))
	require.ErrorIs(t, err, ledger.ErrNotWritten)
	require.ErrorContains(t, err, "has the name of this record")
	env.kubectl("label", "configmap", name, kubernetes.RecordLabel+"=metalstackmachines")
	env.kubectl("annotate", "configmap", name, kubernetes.KeyAnnotation+"="+key)
	_, err = l.Create(t.Context(), key, []byte(value))
	require.ErrorIs(t, err, ledger.ErrExists)
	_, err = l.Update(t.Context(), key, env.recordOf(key).Version, []byte(value))
	require.NoError(t, err)
	env.expect(key, value, env.recordOf(key).Version)
}

func TestRecord_WithForeignFinalizerIsNotTakenForDeleted(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	env.create(l, key, value)
	env.patch(env.configMapOf(key).Name, `{"metadata":{"finalizers":["example.org/hold"]}}`)
	require.ErrorContains(t, l.Delete(t.Context(), key, env.recordOf(key).Version), "finalizers")
	r := env.recordOf(key)
	require.NotNil(t, r)
	// An update takes the finalizer off, and the record goes with it.
	_, err := l.Update(t.Context(), key, r.Version, []byte("new"))
	require.ErrorIs(t, err, ledger.ErrNotFound)
	require.Nil(t, env.recordOf(key))
}

func TestRecord_ImmutableIsNotWritten(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	env.create(l, key, value)
	env.patch(env.configMapOf(key).Name, `{"immutable":true}`)
	_, err := l.Update(t.Context(), key, env.recordOf(key).Version, []byte("new"))
	require.ErrorIs(t, err, ledger.ErrNotWritten)
	require.ErrorContains(t, err, "immutable")
}
