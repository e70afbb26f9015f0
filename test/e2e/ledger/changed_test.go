// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
)

func versionsOf(list []ledger.Record) map[string]string {
	versions := map[string]string{}
	for _, r := range list {
		versions[r.Key] = r.Version
	}
	return versions
}

func TestListChanged_ReadsTheValuesOfChangedRecords(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	keyOf := func(i int) string { return fmt.Sprintf("metalstackmachines/team-a/node-%d", i) }
	for i := range 4 {
		env.create(l, keyOf(i), value)
	}
	before, err := l.List(t.Context())
	require.NoError(t, err)
	known := versionsOf(before)
	_, err = l.Update(t.Context(), keyOf(1), known[keyOf(1)], []byte(`{"changed":1}`))
	require.NoError(t, err)
	require.NoError(t, l.Delete(t.Context(), keyOf(2), known[keyOf(2)]))
	env.patch(env.configMapOf(keyOf(3)).Name, `{"metadata":{"labels":{"`+kubernetes.RecordLabel+`":null}}}`)
	env.create(l, keyOf(4), value)

	list, err := ledger.ListChanged(t.Context(), l, known)
	require.NoError(t, err)
	all, err := l.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, versionsOf(all), versionsOf(list))
	require.Len(t, list, 3)
	require.Equal(t, ledger.Record{Key: keyOf(0), Version: known[keyOf(0)]}, list[0], "it is known")
	require.Equal(t, all[1:], list[1:])
}

func TestListChanged_ListsAllWhenManyHaveChanged(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	w := &wire{}
	l := env.ledger(w)
	env.fill(l, 210)
	all, err := l.List(t.Context())
	require.NoError(t, err)
	gets := 0
	w.on(http.MethodGet, func(pass pass) (*http.Response, error) {
		gets++
		return pass()
	})
	list, err := ledger.ListChanged(t.Context(), l, map[string]string{"metalstackmachines/team-a/other": "1"})
	require.NoError(t, err)
	require.Equal(t, all, list)
	require.Equal(t, 2, gets)
}

func TestListChanged_ReportsDamage(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.ledger(nil)
	env.create(l, key, value)
	before, err := l.List(t.Context())
	require.NoError(t, err)
	name := env.configMapOf(key).Name
	env.patch(name, `{"metadata":{"annotations":{"`+kubernetes.KeyAnnotation+`":null},"labels":{"`+kubernetes.NameLabel+`":null}}}`)
	_, err = ledger.ListChanged(t.Context(), l, versionsOf(before))
	require.ErrorContains(t, err, name)
	require.ErrorContains(t, err, "record without its key")
}
