// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// sizedField is a string, list or map, and how large the OpenAPI says it can be.
type sizedField struct {
	// path leads to it; "[0]" is an item of a list.
	path []string
	typ  string
	// items is the type of a list's items, and key the field that distinguishes them.
	items, key string
	limit      int
}

func (f sizedField) String() string { return strings.ReplaceAll(strings.Join(f.path, "."), ".[", "[") }

// sized returns a value of this size.
func (f sizedField) sized(n int) any {
	switch f.typ {
	case "string":
		return strings.Repeat("a", n)
	case "map":
		m := make(map[string]any, n)
		for i := range n {
			m[fmt.Sprintf("a%d", i)] = "a"
		}
		return m
	}
	list := make([]any, n)
	for i := range list {
		switch {
		case f.items == "string":
			list[i] = fmt.Sprintf("a%d", i)
		case f.items == "integer":
			list[i] = 1
		case f.key != "":
			list[i] = map[string]any{f.key: fmt.Sprintf("a%d", i)}
		default:
			list[i] = map[string]any{}
		}
	}
	return list
}

// in returns a copy of an object with value in the field.
func (f sizedField) in(t *testing.T, object, value any) any {
	t.Helper()
	var root any
	raw, err := json.Marshal(object)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &root))
	var set func(at any, path []string) any
	set = func(at any, path []string) any {
		if len(path) == 0 {
			return value
		}
		if path[0] == "[0]" {
			list, _ := at.([]any)
			if len(list) == 0 {
				list = []any{nil}
			}
			list[0] = set(list[0], path[1:])
			return list
		}
		m, _ := at.(map[string]any)
		if m == nil {
			m = map[string]any{}
		}
		m[path[0]] = set(m[path[0]], path[1:])
		return m
	}
	return set(root, f.path)
}

// maxDuration is the most bytes of a duration, which the OpenAPI does not say.
const maxDuration = 64

type definitions map[string]common.OpenAPIDefinition

func allDefinitions() definitions {
	return openapi.GetOpenAPIDefinitions(func(name string) spec.Ref { return spec.MustCreateRef("#/definitions/" + name) })
}

// fields returns the strings, lists and maps of a schema; itemLength is the
// limit of a list's items, which the list has.
func (d definitions) fields(schema spec.Schema, itemLength *int64, path ...string) (found []sizedField) {
	if ref := schema.Ref.String(); ref != "" {
		name := strings.TrimPrefix(ref, "#/definitions/")
		schema = d[name].Schema
		if name == (metav1.Duration{}).OpenAPIModelName() {
			schema.MaxLength = new(int64(maxDuration))
		}
	}
	if schema.MaxLength == nil {
		schema.MaxLength = itemLength
	}
	limited := func(typ string, limit *int64) sizedField {
		f := sizedField{path: slices.Clone(path), typ: typ}
		if limit != nil {
			f.limit = int(*limit)
		}
		return f
	}
	switch {
	case slices.Contains(schema.Type, "array"):
		var length *int64
		for _, s := range schema.AllOf {
			length = s.Items.Schema.MaxLength
		}
		f := limited("array", schema.MaxItems)
		if types := schema.Items.Schema.Type; len(types) > 0 {
			f.items = types[0]
		}
		if keys, _ := schema.Extensions["x-kubernetes-list-map-keys"].([]any); len(keys) == 1 {
			f.key = keys[0].(string)
		}
		found = append(append(found, f), d.fields(*schema.Items.Schema, length, append(slices.Clone(path), "[0]")...)...)
	case slices.Contains(schema.Type, "string"):
		found = append(found, limited("string", schema.MaxLength))
	case schema.AdditionalProperties != nil:
		found = append(found, limited("map", schema.MaxProperties))
	}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		found = append(found, d.fields(schema.Properties[name], nil, append(slices.Clone(path), name)...)...)
	}
	return found
}

type sizedKind struct {
	kind, resource string
	spec           map[string]any
}

func sizedKinds() []sizedKind {
	machine := map[string]any{"image": simulator.MachineImage, "machineType": simulator.SmallSize}
	cluster := map[string]any{"partition": simulator.DefaultPartition, "publicNetworkID": simulator.InternetNetwork}
	remediation := map[string]any{"strategy": map[string]any{"type": "Reboot", "retryLimit": 2, "timeout": "10m0s"}}
	template := func(spec map[string]any) map[string]any {
		return map[string]any{"template": map[string]any{"spec": spec}}
	}
	return []sizedKind{
		{"MetalStackMachine", "metalstackmachines", machine},
		{"MetalStackFirewall", "metalstackfirewalls", map[string]any{"image": simulator.FirewallImage, "machineType": simulator.SmallSize}},
		{"MetalStackCluster", "metalstackclusters", cluster},
		{"MetalStackMachineTemplate", "metalstackmachinetemplates", template(machine)},
		{"MetalStackClusterTemplate", "metalstackclustertemplates", template(cluster)},
		{"MetalStackRemediation", "metalstackremediations", remediation},
		{"MetalStackRemediationTemplate", "metalstackremediationtemplates", template(remediation)},
	}
}

func (k sizedKind) object(name string) map[string]any {
	return map[string]any{
		"apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha4", "kind": k.kind,
		"metadata": map[string]any{"name": name, "namespace": NamespaceA}, "spec": k.spec,
	}
}

// sender sends requests as bytes.
type sender struct {
	client *http.Client
	base   string
	// revisions are those of the existing objects, by resource.
	revisions map[string]string
}

func newSender(t *testing.T, s *Server) sender {
	t.Helper()
	client, err := rest.HTTPClientFor(s.Config)
	require.NoError(t, err)
	send := sender{client, s.URL + "/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/" + NamespaceA + "/", map[string]string{}}
	for _, k := range sizedKinds() {
		status, answer := send.send(t, "POST", k.resource, "application/json", k.object("existing"))
		require.Equal(t, http.StatusCreated, status, answer)
		var created metav1.PartialObjectMetadata
		require.NoError(t, json.Unmarshal([]byte(answer), &created))
		send.revisions[k.resource] = created.ResourceVersion
	}
	return send
}

func (s sender) send(t *testing.T, method, path, contentType string, body any) (int, string) {
	t.Helper()
	raw, isRaw := body.([]byte)
	if !isRaw {
		var err error
		raw, err = json.Marshal(body)
		require.NoError(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, bytes.NewReader(raw))
	require.NoError(t, err)
	req.Header.Set("Content-Type", contentType)
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(answer)
}

// refuses sends an object in every way in which one can be written, and returns
// the answers, all of which have to be refusals of bounded size.
func (s sender) refuses(t *testing.T, k sizedKind, f sizedField, value any, also string) {
	t.Helper()
	const place = "place of the value" // which is large, and encoded once
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	marshal := func(v any) []byte {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, 1, bytes.Count(raw, []byte(`"`+place+`"`)))
		return bytes.Replace(raw, []byte(`"`+place+`"`), encoded, 1)
	}
	there := k.object("existing")
	there["metadata"].(map[string]any)["resourceVersion"] = s.revisions[k.resource]
	existing, newcomer := marshal(f.in(t, there, place)), marshal(f.in(t, k.object("new"), place))
	patch := f.in(t, map[string]any{}, place)
	first := "/" + f.path[0]
	for _, r := range []struct {
		method, path, contentType string
		body                      []byte
	}{
		{"POST", k.resource, "application/json", newcomer},
		{"POST", k.resource + "?dryRun=All", "application/json", newcomer},
		{"PUT", k.resource + "/existing", "application/json", existing},
		{"PATCH", k.resource + "/existing", "application/merge-patch+json", marshal(patch)},
		{"PATCH", k.resource + "/existing?dryRun=All", "application/json-patch+json", marshal([]any{map[string]any{"op": "add", "path": first, "value": patch.(map[string]any)[f.path[0]]}})},
		{"PATCH", k.resource + "/new?fieldManager=test&dryRun=All", "application/apply-patch+yaml", newcomer},
	} {
		status, answer := s.send(t, r.method, r.path, r.contentType, r.body)
		what := fmt.Sprintf("%s %s (%s): %s of %v: %d %.2000s", r.method, r.path, r.contentType, k.kind, f, status, answer)
		assert.Less(t, len(answer), 64<<10, what)
		if strings.Contains(r.contentType, "yaml") && len(r.body) > 256<<10 {
			assert.Equal(t, http.StatusRequestEntityTooLarge, status, what)
			continue
		}
		assert.Equal(t, http.StatusUnprocessableEntity, status, what)
		last := f.path[len(f.path)-1]
		if last == "[0]" {
			last = f.path[len(f.path)-2] + "[0]"
		}
		assert.Contains(t, answer, last, what)
		if also != "" {
			assert.Contains(t, answer, also, what)
		}
	}
}

// gets counts the calls that lookups of a spec make, and observation does not.
func gets(s *Server) (n int) {
	for _, endpoint := range []string{"network-get", "ip-get", "project-get", "machine-get"} {
		n += s.Metal.Sim.CallsOf(endpoint)
	}
	return n
}

// Every field says how large it can be, in the OpenAPI and in what happens to
// one that is larger. Nothing is looked up for it.
func TestBodyLimits_EveryFieldOfEveryKindIsBounded(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	send, all := newSender(t, s), allDefinitions()
	before := gets(s)
	count := 0
	for _, k := range sizedKinds() {
		for _, f := range all.fields(all["io.x-k8s.cluster.infrastructure.v1alpha4."+k.kind+"Spec"].Schema, nil, "spec") {
			count++
			if !assert.Positivef(t, f.limit, "%s: %s has no largest size", k.kind, f) {
				continue
			}
			also := fmt.Sprint(f.limit)
			switch f.path[len(f.path)-1] {
			case "protocol":
				also = "supported values"
			case "provisioningTimeout":
				also = "" // A JSON patch of the whole spec shows that it is none.
			}
			send.refuses(t, k, f, f.sized(f.limit+1), also)
		}
	}
	assert.Greater(t, count, 160)
	assert.Equal(t, before, gets(s), "what is too large is not looked up")
}

// At ten thousand times the size, or as much of that as no field can have,
// nothing is made of the field at all.
func TestBodyLimits_OversizedFieldIsRefused(t *testing.T) {
	s := Start(t, Options{})
	send, all := newSender(t, s), allDefinitions()
	before := gets(s)
	enough := map[string]int{"string": 300_000, "array": 4_000, "map": 4_000}
	for _, k := range sizedKinds() {
		fields := all.fields(all["io.x-k8s.cluster.infrastructure.v1alpha4."+k.kind+"Spec"].Schema, nil, "spec")
		for _, f := range all.fields(all[metav1.ObjectMeta{}.OpenAPIModelName()].Schema, nil, "metadata") {
			// Those of the items of lists that are the server's, or of upstream.
			if len(f.path) == 2 {
				f.limit = 100
				fields = append(fields, f)
			}
		}
		for _, f := range fields {
			n := min(10_000*f.limit, enough[f.typ])
			send.refuses(t, k, f, f.sized(n), "")
		}
	}
	assert.Equal(t, before, gets(s))
}

// Three bodies as large as can be, of nothing but empty entries, cost about what
// it takes to read them.
func TestBodyLimits_EmptyEntriesCostNoMemory(t *testing.T) {
	s := Start(t, Options{SweepInterval: time.Hour}) // sweeps allocate, too
	send := newSender(t, s)
	object, err := json.Marshal(sizedKinds()[0].object("new"))
	require.NoError(t, err)
	tags := []byte(`{"tags":["",` + strings.Repeat(`"",`, 500_000) + `""],`)
	body := bytes.Replace(object, []byte(`"spec":{`), append([]byte(`"spec":`), tags...), 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			status, answer := send.send(t, "POST", "metalstackmachines?dryRun=All", "application/json", body)
			assert.Equal(t, http.StatusUnprocessableEntity, status, answer)
			assert.Contains(t, answer, "spec.tags: Too many: must have at most 1024 items")
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "allocated, by the client, too")
}

func TestStatus_ConditionsOfAControllerAreBounded(t *testing.T) {
	t.Parallel()
	send := newSender(t, Start(t, Options{}))
	conditions := func(n int) map[string]any {
		list := make([]any, n)
		for i := range list {
			list[i] = map[string]any{"type": fmt.Sprintf("Mine%d", i), "status": "True", "reason": "Mine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
		}
		return map[string]any{"status": map[string]any{"conditions": list}}
	}
	for _, resource := range []string{"metalstackmachines", "metalstackfirewalls", "metalstackclusters"} {
		path := resource + "/existing/status"
		for _, n := range []int{40, 2000} {
			status, answer := send.send(t, "PATCH", path, "application/merge-patch+json", conditions(n))
			assert.Equal(t, http.StatusUnprocessableEntity, status, answer)
			assert.Contains(t, answer, "status.conditions: Too many")
		}
		status, answer := send.send(t, "PATCH", path, "application/merge-patch+json", conditions(20))
		assert.Equal(t, http.StatusOK, status, answer)
	}
}

func TestAllocationBody_IsBounded(t *testing.T) {
	t.Parallel()
	send := newSender(t, Start(t, Options{}))
	for what, body := range map[string]map[string]any{
		"userData":           {"userData": strings.Repeat("A", 1_500_000)},
		"clusterRef.name":    {"clusterRef": map[string]any{"name": strings.Repeat("a", 64)}},
		"metadata.name":      {"metadata": map[string]any{"name": strings.Repeat("a", 10_000)}},
		"metadata.labels":    {"metadata": map[string]any{"labels": sizedField{typ: "map"}.sized(2000)}},
		"clusterRef.unknown": {"clusterRef": map[string]any{"unknown": strings.Repeat("a", 300_000)}},
	} {
		status, answer := send.send(t, "POST", "metalstackmachines/existing/allocation", "application/json", body)
		assert.Equal(t, http.StatusUnprocessableEntity, status, answer)
		assert.Contains(t, answer, what)
		assert.Less(t, len(answer), 8<<10)
	}
}

// What cannot be the name of anything never leaves the server.
func TestLookups_SkippedForInvalidSpec(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	send := newSender(t, s)
	before := gets(s)
	machine := s.Metal.Sim.Inventory().Machines[0].ID
	for _, spec := range []map[string]any{
		{"networks": []any{"../machine/" + machine}},
		{"networks": []any{"internet-x", ".."}},
		{"networks": []any{"internet-x"}, "providerID": "metal:///../" + machine},
		{"networks": []any{"internet-x"}, "tags": []any{"a", "a"}},
	} {
		object := sizedKinds()[0].object("new")
		spec["image"], spec["machineType"] = simulator.MachineImage, simulator.SmallSize
		object["spec"] = spec
		status, answer := send.send(t, "POST", "metalstackmachines?dryRun=All", "application/json", object)
		assert.Equal(t, http.StatusUnprocessableEntity, status, answer)
	}
	assert.Equal(t, before, gets(s))
}
