// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// newerVersion is a release that does not exist yet, and that wrote a record.
const newerVersion = "v9.1.0"

// requireNewerRecordsRefused has a release that is not there yet write a record, as before
// a rollback that goes too far back. Neither the servers that run then, nor one that starts,
// change anything, and they say why. When the record is as it was, a server serves again.
func (env *environment) requireNewerRecordsRefused() {
	env.t.Helper()
	team := env.teams[0].Namespace
	active := env.pair()[0]
	restore := env.rewrite(env.recordOf("metalstackmachines", team, "node-1"), func(value map[string]json.RawMessage) {
		value["format"] = json.RawMessage(strconv.Itoa(recordformat.Newest + 1))
		value["writtenBy"] = json.RawMessage(strconv.Quote(newerVersion))
	})
	// A record is read again when a write of it has a conflict. Until then the server goes on.
	env.eventually(func(context.Context) error { return env.refusesWrites(team, "node-1") })
	env.requireNothingWritten(func() {
		for _, name := range []string{"node-2", leaving} {
			require.NoError(env.t, env.refusesWrites(team, name))
		}
		_, err := env.client.MetalStackMachines(team).Get(env.t.Context(), "node-1", metav1.GetOptions{})
		require.NoError(env.t, err, "the last known state is shown")

		for _, p := range append(env.alive(), env.ControllerManager) {
			env.terminate(p)
		}
		env.Servers = []*cluster.Program{env.StartServer(env.whole)}
		env.ControllerManager = env.StartControllerManager(env.whole)
		env.requireNotActive(env.Servers[0])
	})
	assert.Equal(env.t, 1, strings.Count(active.Log(env.t), "Found records of a newer format"))

	restore()
	env.terminate(env.Servers[0])
	env.Servers = []*cluster.Program{env.StartServer(env.whole)}
	env.Servers[0].AwaitReady(env.t)
	env.ControllerManager.AwaitReady(env.t)
	env.AwaitAvailable(env.t)
}

// newerMessage begins what is said of the record.
var newerMessage = fmt.Sprintf("records have format %d, written by %s; this server", recordformat.Newest+1, newerVersion)

// refusesWrites returns an error unless a write of a machine is refused because of the
// record, in a way that clients repeat.
func (env *environment) refusesWrites(namespace, name string) error {
	err := env.client.RESTClient().Patch(types.MergePatchType).Namespace(namespace).Resource("metalstackmachines").Name(name).
		Body([]byte(`{"metadata":{"labels":{"after":"downgrade"}}}`)).MaxRetries(0).Do(env.t.Context()).Error()
	if !apierrors.IsServiceUnavailable(err) || !strings.Contains(err.Error(), newerMessage) {
		return fmt.Errorf("a write of %s was answered with %w", name, err)
	}
	if after, found := apierrors.SuggestsClientDelay(err); !found || after == 0 {
		return fmt.Errorf("no Retry-After: %w", err)
	}
	return nil
}

// requireNotActive requires that a server leaves the election, and says why.
func (env *environment) requireNotActive(p *cluster.Program) {
	env.t.Helper()
	env.eventually(func(ctx context.Context) error {
		events, err := env.Client().EventsV1().Events(cluster.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if event.Reason == apiserver.ReasonRecordsNewer && strings.Contains(event.Note, p.Name) && strings.Contains(event.Note, newerMessage) {
				return nil
			}
		}
		return fmt.Errorf("no Event of %s", p.Name)
	}, "waited for the Event")
	env.eventually(func(context.Context) error {
		if !strings.Contains(p.Log(env.t), "This server does not become active any more") {
			return fmt.Errorf("%s has not left the election", p.Name)
		}
		return nil
	}, "waited for the end of the election")
	assert.Contains(env.t, p.Log(env.t), newerMessage)
	// Right after its start, a server may not know yet by which authority clients are verified, and
	// names no check to those without credentials.
	env.eventually(func(ctx context.Context) error {
		ready, err := env.Metalstack(env.t, env.direct(p)).Discovery().RESTClient().Get().AbsPath("/readyz").MaxRetries(0).DoRaw(ctx)
		if err == nil {
			return fmt.Errorf("%s is ready", p.Name)
		}
		if !strings.Contains(string(ready), "[-]record-format failed") {
			return fmt.Errorf("%w: %s", err, ready)
		}
		return nil
	}, "waited for the failed check")
	assert.NotEqual(env.t, p.Name, env.Holder(env.t))
	assert.NotEqual(env.t, replica.ActiveValue, env.ReplicaLabels(env.t)[p.Name])
}

// requireNothingWritten requires that neither records nor metal change while f runs.
func (env *environment) requireNothingWritten(f func()) {
	env.t.Helper()
	records, operations := env.recordVersions(), len(env.Metal.Sim.Inventory().History)
	f()
	assert.Equal(env.t, records, env.recordVersions(), "a record was written")
	assert.Empty(env.t, env.Metal.Sim.Inventory().History[operations:], "metal was changed")
}

// alive are the servers that have not ended.
func (env *environment) alive() (alive []*cluster.Program) {
	for _, p := range env.Servers {
		select {
		case <-p.Ended():
		default:
			alive = append(alive, p)
		}
	}
	return alive
}

// direct is for an administrator at a server itself.
func (env *environment) direct(p *cluster.Program) *rest.Config {
	config := env.Admin()
	config.Host = p.URL
	config.TLSClientConfig.Insecure, config.TLSClientConfig.CAData = true, nil
	return config
}

// recordVersions are the versions of all ConfigMaps that are records.
func (env *environment) recordVersions() map[string]string {
	env.t.Helper()
	list, err := env.Client().CoreV1().ConfigMaps(cluster.Namespace).List(env.t.Context(), metav1.ListOptions{LabelSelector: kubernetes.RecordLabel})
	require.NoError(env.t, err)
	require.NotEmpty(env.t, list.Items)
	versions := map[string]string{}
	for _, m := range list.Items {
		versions[m.Name] = m.ResourceVersion
	}
	return versions
}

// recordOf is the ConfigMap that is an object's record.
func (env *environment) recordOf(resource, namespace, name string) *corev1.ConfigMap {
	env.t.Helper()
	list, err := env.Client().CoreV1().ConfigMaps(cluster.Namespace).List(env.t.Context(), metav1.ListOptions{LabelSelector: strings.Join([]string{
		kubernetes.RecordLabel + "=" + resource, kubernetes.NamespaceLabel + "=" + namespace, kubernetes.NameLabel + "=" + name,
	}, ",")})
	require.NoError(env.t, err)
	require.Len(env.t, list.Items, 1)
	return &list.Items[0]
}

// rewrite changes the value of a record, until restore is called.
func (env *environment) rewrite(record *corev1.ConfigMap, change func(value map[string]json.RawMessage)) (restore func()) {
	env.t.Helper()
	const key = "record.json"
	before := record.Data[key]
	write := func(value string) {
		env.t.Helper()
		record.Data[key] = value
		var err error
		record, err = env.Client().CoreV1().ConfigMaps(record.Namespace).Update(env.t.Context(), record, metav1.UpdateOptions{})
		require.NoError(env.t, err)
	}
	var value map[string]json.RawMessage
	require.NoError(env.t, json.Unmarshal([]byte(before), &value))
	change(value)
	changed, err := json.Marshal(value)
	require.NoError(env.t, err)
	write(string(changed))
	return func() { write(before) }
}
