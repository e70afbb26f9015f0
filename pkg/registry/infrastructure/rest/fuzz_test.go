// SPDX-License-Identifier: Apache-2.0

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
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/clustertemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/ip"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machinetemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/network"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediationtemplate"
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

// whole are objects with all that a client may set.
var whole = map[string]string{
	machine.Resource: `{"metadata":{"name":"a","labels":{"a":"b"},"finalizers":["a/b"],"ownerReferences":[{"apiVersion":"cluster.x-k8s.io/v1beta2","kind":"Machine","name":"a","uid":"u"}]},` +
		`"spec":` + machineSpec + `,"providerID":"metal://fra-01/` + idleID + `"},` + someStatus + `}`,
	firewall.Resource: `{"metadata":{"name":"a"},"spec":` + firewallSpec + `,` + someStatus + `}`,
	machinetemplate.Resource: `{"metadata":{"name":"a"},"spec":{"template":{"metadata":{"labels":{"a":"b"},"annotations":{"a":"b"}},"spec":` + machineSpec + `}}},` +
		`"status":{"capacity":{"cpu":"8","memory":"64Gi"},"nodeInfo":{"architecture":"amd64","operatingSystem":"linux"}}}`,
	cluster.Resource:         `{"metadata":{"name":"a","annotations":{"cluster.x-k8s.io/managed-by":"a"}},"spec":` + clusterSpec + `,` + someStatus + `}`,
	clustertemplate.Resource: `{"metadata":{"name":"a"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":` + clusterSpec + `}}}`,
	remediation.Resource: `{"metadata":{"name":"a","ownerReferences":[{"apiVersion":"cluster.x-k8s.io/v1beta2","kind":"Machine","name":"a","uid":"u"}]},"spec":` + remediationSpec + `,` +
		`"status":{"phase":"Fencing","attempt":1,"phaseTime":"2026-11-22T12:00:00Z","machine":{"name":"a","allocationUUID":"b"},"poweredOff":true,"fencedNode":"a"}}`,
	network.Resource:             `{"metadata":{"name":"a"},"spec":{"partition":"fra-01","addresses":{"addressFamilies":["IPv4"]}},` + someStatus + `}`,
	ip.Resource:                  `{"metadata":{"name":"a"},"spec":{"networkID":"internet","addressFamily":"IPv4","address":"10.0.0.1"},` + someStatus + `}`,
	remediationtemplate.Resource: `{"metadata":{"name":"a"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":` + remediationSpec + `}}}`,
}

const (
	// machineSpec is without its end.
	machineSpec = `{"image":"ubuntu-24.04","machineType":"v1-small-x86","partition":"fra-01",` +
		`"sshKeys":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqxmFyTKR1YbGDJiFXqkTBTGdWvLkfTOyYYpCdo4Qpn test@example"],"tags":["a=b"],"networks":["internet"],"userData":{"name":"a"}`
	firewallSpec = `{"image":"firewall-ubuntu-3.0","machineType":"v1-small-x86","partition":"fra-01","networks":["internet"],` +
		`"rules":{"egress":[{"protocol":"tcp","ports":[443],"to":["0.0.0.0/0"],"comment":"a"}],"ingress":[{"protocol":"udp","ports":[53],"from":["10.0.0.0/8"],"to":["10.0.0.1/32"]}]}}`
	clusterSpec     = `{"partition":"fra-01","projectID":"` + projectA + `","publicNetworkID":"public","privateNetworkID":"private","controlPlaneEndpoint":{"host":"10.0.0.1","port":6443},"metalAPIAccess":{"additionalNetworkIDs":["mpls"]},"firewallSpec":` + firewallSpec + `}`
	remediationSpec = `{"strategy":{"type":"Reboot","retryLimit":2,"timeout":"10m0s"}}`
	someStatus      = `"status":{"ready":true,"initialization":{"provisioned":true},"conditions":[{"type":"Allocated","status":"False","reason":"Waiting","message":"a","lastTransitionTime":"2026-11-22T12:00:00Z"}]}`
)

// Whatever a client sends, it is taken, shown and deleted, or refused with a
// reason: a panic would be a 500 to the client and a stack trace to the operator.
func FuzzBody_IsAcceptedOrRefused(f *testing.F) {
	w := newEnvironment(f)
	for choice := range w.choices() {
		for _, body := range bodies {
			f.Add(byte(choice), []byte(body), []byte(bodies[choice%len(bodies)]))
		}
	}
	f.Fuzz(func(t *testing.T, choice byte, body, next []byte) { w.submit(t, int(choice), body, next) })
}

// The same holds of whatever stands in the place of one field, or of a part with
// all that is in it.
func FuzzField_IsAcceptedOrRefused(f *testing.F) {
	w := newEnvironment(f)
	resources := slices.Sorted(maps.Keys(w.all))
	for choice := range w.choices() {
		for place := range 40 {
			value := []string{"10.0.0.2", "-1", `["a"]`, "null"}[place%4]
			f.Add(byte(choice), byte(place), []byte(value), byte(place+7), []byte("a"))
		}
	}
	f.Fuzz(func(t *testing.T, choice, place byte, value []byte, next byte, nextValue []byte) {
		body := []byte(whole[resources[int(choice)%len(resources)]])
		changed := put(t, body, int(place), value)
		w.submit(t, int(choice), changed, put(t, changed, int(next), nextValue))
		w.submit(t, int(choice), body, changed)
	})
}

func TestFuzzField_SeedIsAccepted(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	for resource, body := range whole {
		for _, version := range scheme.Scheme.PrioritizedVersionsForGroup(infrastructure.GroupName) {
			r := w.all[resource].main
			obj := decoded(t, r, scheme.Codecs.UniversalDecoder(infrastructure.SchemeGroupVersion), version, []byte(body))
			require.NotNil(t, obj, resource)
			obj.SetNamespace("team-a")
			_, err := r.Create(in("team-a"), obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
			require.NoError(t, err)
			remove(t, r, "a")
		}
	}
}

// put puts a value, JSON or a string, in one place of a body.
func put(t *testing.T, body []byte, place int, value []byte) []byte {
	t.Helper()
	var tree any
	require.NoError(t, json.Unmarshal(body, &tree))
	var in any = string(value)
	if json.Valid(value) {
		in = json.RawMessage(value)
	}
	places := 0
	replace(tree, -1, in, &places)
	n := 0
	out, err := json.Marshal(replace(tree, place%places, in, &n))
	require.NoError(t, err)
	return out
}

// replace replaces the node with a number, and counts them all.
func replace(node any, at int, in any, n *int) any {
	if *n++; *n-1 == at {
		return in
	}
	switch v := node.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			v[name] = replace(v[name], at, in, n)
		}
	case []any:
		for i := range v {
			v[i] = replace(v[i], at, in, n)
		}
	}
	return node
}

// choices are the kinds in their versions.
func (w *environment) choices() int {
	return len(w.all) * len(scheme.Scheme.PrioritizedVersionsForGroup(infrastructure.GroupName))
}

// submit creates what a body says, and makes of it what the next one does.
func (w *environment) submit(t *testing.T, choice int, body, next []byte) {
	t.Helper()
	resources := slices.Sorted(maps.Keys(w.all))
	versions := scheme.Scheme.PrioritizedVersionsForGroup(infrastructure.GroupName)
	r := w.all[resources[choice%len(resources)]]
	decode := func(body []byte) registry.Object {
		return decoded(t, r.main, scheme.Codecs.UniversalDecoder(infrastructure.SchemeGroupVersion), versions[choice/len(resources)%len(versions)], body)
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
}

// A record is what a user, or an older version, put into the ledger: one that
// could not be shown would take the list of everything else with it.
func FuzzRecord_IsProjected(f *testing.F) {
	w := newEnvironment(f)
	w.discover(idleID)
	projectors := NewRESTOptionsGetter(w.backend, projection.Source{Facts: w.facts, Bindings: teamABinding{}, Clock: clock.RealClock{}}).(restOptionsGetter).projectors
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
		projector := projectors[infrastructure.Resource(resource)]
		if projector == nil {
			return
		}
		projector.Refs(record)
		once := joined(t, projector, record, nil)
		isShown(t, r, once)
		isShown(t, r, joined(t, projector, record, once))
	})
}

func joined(t *testing.T, projector storage.Projector, record, previous runtime.Object) runtime.Object {
	t.Helper()
	before := record.DeepCopyObject()
	out := projector.Project(record, previous)
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

// remove deletes an object that has no finalizers any more.
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
