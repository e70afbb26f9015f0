package rest

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// bodies are what fuzzing starts with, for each kind.
var bodies = []string{
	`{"metadata":{"name":"a","annotations":{"a":"b"}},"spec":{"image":"ubuntu-24.04","machineType":"v1-small-x86","partition":"fra-01","tags":["a=b"],"networks":["internet"],"sshKeys":["ssh-ed25519 AAAA"]}}`,
	`{"metadata":{"generateName":"a-"},"spec":{"image":"ubuntu-24.04","machineType":"v1-small-x86","providerID":"metal://fra-01/` + idleID + `"},"status":{"ready":true,"initialization":{"provisioned":true}}}`,
	`{"metadata":{"name":"a","labels":{"cluster.x-k8s.io/managed-by":""}},"spec":{"partition":"fra-01","publicNetworkID":"internet","controlPlaneEndpoint":{"host":"10.0.0.1","port":6443},"firewallSpec":{"image":"firewall-ubuntu-3.0","machineType":"v1-small-x86"}}}`,
	`{"metadata":{"name":"a"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"image":"ubuntu-24.04","machineType":"v1-small-x86"}}}}`,
	`{"metadata":{"name":"a"},"spec":{"template":{"spec":{"partition":"fra-01","publicNetworkID":"internet"}}}}`,
	`{"metadata":{"name":"a","finalizers":["a/b"]},"status":{"conditions":[{"type":"Ready","status":"True","reason":"R","lastTransitionTime":"2026-11-22T12:00:00Z"},{"type":"Allocated","status":"False","reason":"Waiting","lastTransitionTime":null}]}}`,
	`{"metadata":{"name":"A/B","uid":"u"},"spec":null}`,
	`{}`,
}

// Whatever a client sends, it is taken, shown and deleted, or refused with a
// reason: a panic would be a 500 to the client and a stack trace to the operator.
func FuzzABodyIsTakenOrRefused(f *testing.F) {
	w := newWorld(f)
	resources := slices.Sorted(maps.Keys(w.all))
	versions := scheme.Scheme.PrioritizedVersionsForGroup(infrastructure.GroupName)
	for choice := range len(resources) * len(versions) {
		for _, body := range bodies {
			f.Add(byte(choice), []byte(body), []byte(bodies[choice%len(bodies)]))
		}
	}
	f.Fuzz(func(t *testing.T, choice byte, body, next []byte) {
		r := w.all[resources[int(choice)%len(resources)]]
		version := versions[int(choice)/len(resources)%len(versions)]
		decode := func(body []byte) registry.Object {
			return decoded(t, r.main, scheme.Codecs.UniversalDecoder(infrastructure.SchemeGroupVersion), version, body)
		}
		obj := decode(body)
		if obj == nil {
			return
		}
		obj.SetNamespace("team-a")
		created, err := r.main.Create(in("team-a"), obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		if err != nil {
			isRefusal(t, err)
			return
		}
		name := created.(registry.Object).GetName()
		defer remove(t, r.main, name)
		isShown(t, r.main, created)

		updaters := []rest.Updater{r.main}
		if r.status != nil {
			updaters = append(updaters, r.status)
		}
		for _, updater := range updaters {
			submitted := decode(next)
			if submitted == nil {
				return
			}
			current, err := r.main.Get(in("team-a"), name, &metav1.GetOptions{})
			require.NoError(t, err)
			submitted.SetName(name)
			submitted.SetNamespace("team-a")
			submitted.SetUID("")
			submitted.SetResourceVersion(current.(registry.Object).GetResourceVersion())
			updated, _, err := updater.Update(in("team-a"), name, rest.DefaultUpdatedObjectInfo(submitted), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
			if err != nil {
				isRefusal(t, err)
				continue
			}
			isShown(t, r.main, updated)
		}
	})
}

// A record is what somebody, or an older version, put into the ledger: one that
// could not be shown would take the list of everything else with it.
func FuzzARecordThatCanBeReadIsShown(f *testing.F) {
	w := newWorld(f)
	w.discover(idleID)
	joiners := NewStores(w.backend, projection.Source{Facts: w.facts, Bindings: binding{}, Clock: clock.RealClock{}}).(stores).joiners
	resources := slices.Sorted(maps.Keys(w.all))
	for i := range resources {
		for _, body := range append([]string{
			`{"metadata":{"name":"a","namespace":"team-a","uid":"u"},"status":{"allocation":{"phase":"Allocated","machineID":"` + idleID + `","allocationUUID":"a"}}}`,
			`{"metadata":{"name":"a","namespace":"team-b"},"status":{"allocation":{"phase":"Releasing","startTime":"2026-11-22T12:00:00Z","networkID":"n","ipAddress":"10.0.0.1"}}}`,
			`{"metadata":{"name":"a"},"status":{"allocation":{"phase":"Allocating","uid":"u","attempt":-1}}}`,
			`{"status":{"allocation":{"phase":"Released"}}}`,
			`{"status":{"allocation":{"phase":"?"},"conditions":[{"type":"Ready"},{"type":"Ready","status":"True"},{}]}}`,
		}, bodies...) {
			f.Add(byte(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, choice byte, body []byte) {
		resource := resources[int(choice)%len(resources)]
		r := w.all[resource].main
		record := decoded(t, r, scheme.StorageCodec, scheme.StorageVersion, body)
		if record == nil {
			return
		}
		isShown(t, r, record)
		joiner := joiners[infrastructure.Resource(resource)]
		if joiner == nil {
			return
		}
		joiner.Refs(record)
		once := joined(t, joiner, record, nil)
		isShown(t, r, once)
		isShown(t, r, joined(t, joiner, record, once))
	})
}

func joined(t *testing.T, joiner storage.Joiner, record, previous runtime.Object) runtime.Object {
	t.Helper()
	before := record.DeepCopyObject()
	out := joiner.Project(record, previous)
	assert.Equal(t, before, record, "what is recorded is everybody's")
	return out
}

// decoded returns nil for what is no object of the kind that r serves.
func decoded(t *testing.T, r *registry.REST, d runtime.Decoder, gv schema.GroupVersion, body []byte) registry.Object {
	t.Helper()
	kinds, _, err := scheme.Scheme.ObjectKinds(r.New())
	require.NoError(t, err)
	gvk := gv.WithKind(kinds[0].Kind)
	out, _, err := d.Decode(body, &gvk, nil)
	if err != nil || reflect.TypeOf(out) != reflect.TypeOf(r.New()) {
		return nil
	}
	return out.(registry.Object)
}

func isRefusal(t *testing.T, err error) {
	t.Helper()
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	assert.Less(t, status.Status().Code, int32(http.StatusInternalServerError), "%v", err)
}

// isShown is whether an object can be sent as itself, in each version, and as
// the row of a table.
func isShown(t *testing.T, r *registry.REST, obj runtime.Object) {
	t.Helper()
	for _, gv := range scheme.Scheme.PrioritizedVersionsForGroup(infrastructure.GroupName) {
		_, err := runtime.Encode(scheme.Codecs.LegacyCodec(gv), obj)
		require.NoError(t, err)
	}
	rows, err := r.ConvertToTable(t.Context(), obj, nil)
	require.NoError(t, err)
	require.Len(t, rows.Rows, 1)
	_, err = json.Marshal(rows.Rows[0].Cells)
	require.NoError(t, err)
}

// remove deletes an object that nobody holds on to any more.
func remove(t *testing.T, r *registry.REST, name string) {
	t.Helper()
	_, gone, err := r.Delete(in("team-a"), name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	require.NoError(t, err)
	if gone {
		return
	}
	_, err = update(t, r, name, func(obj registry.Object) { obj.SetFinalizers(nil) })
	require.NoError(t, err)
	_, err = r.Get(in("team-a"), name, &metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}
