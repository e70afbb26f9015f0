// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// observed are machines of several clusters and projects.
type observed map[string]*metal.Machine

func (o observed) Machine(id string) (*metal.Machine, metal.Presence) {
	if m := o[id]; m != nil {
		return m, metal.Present
	}
	return nil, metal.Gone
}

func (o observed) AllocatedIn(project string) (in []*metal.Machine) {
	for _, m := range o {
		if m.Project() == project {
			in = append(in, m)
		}
	}
	return in
}

// noBackend is asked for nothing.
type noBackend struct{ Backend }

func TestMachines_AreThoseOfTheClusterByTagOrObject(t *testing.T) {
	t.Parallel()
	machine := func(id, project string, tags ...string) *metal.Machine {
		return &metal.Machine{ID: id, Tags: tags, Allocation: &metal.Allocation{Project: project, Hostname: id}}
	}
	machines := observed{}
	for _, m := range []*metal.Machine{
		machine("own", "a", "cluster.metal-stack.io/id=rose"), machine("adopted", "a", "cluster.metal-stack.io/id=formerly", "x=y"),
		machine("lilys", "a", "cluster.metal-stack.io/id=lily"), machine("untagged", "a"), machine("longer", "a", "cluster.metal-stack.io/id=rose-2"),
		machine("theirs", "b", "cluster.metal-stack.io/id=rose"), {ID: "free", Tags: []string{"cluster.metal-stack.io/id=rose"}},
	} {
		machines[m.ID] = m
	}
	server := NewServer(machines, noBackend{}, nil, nil)
	asked := 0
	cluster := Cluster{ID: "rose", Project: "a", Adopted: func(context.Context) (map[string]bool, error) {
		asked++
		return map[string]bool{"adopted": true, "theirs": true}, nil
	}}
	ask := func(method, path, body string) (int, []machineAnswer) {
		req := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		server.Handler(cluster, path).ServeHTTP(recorder, req)
		var answers []machineAnswer
		if recorder.Code == http.StatusOK && strings.HasPrefix(recorder.Body.String(), "[") {
			require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &answers))
		}
		return recorder.Code, answers
	}
	status, answers := ask(http.MethodPost, "v1/machine/find", "{}")
	require.Equal(t, http.StatusOK, status)
	var ids []string
	for _, m := range answers {
		ids = append(ids, m.ID)
		assert.Contains(t, m.Tags, "cluster.metal-stack.io/id=rose", "metal-ccm would ask for it to be written")
		assert.NotContains(t, m.Tags, "cluster.metal-stack.io/id=formerly")
	}
	assert.ElementsMatch(t, []string{"own", "adopted"}, ids)
	assert.Equal(t, 1, asked, "objects are read once, however many machines the project has")
	for _, filter := range []string{`{"allocation_hostname":"lilys"}`, `{"allocation_hostname":"nobody"}`, `{"tags":["cluster.metal-stack.io/id=lily"],"network_ids":[]}`} {
		asked = 0
		_, answers := ask(http.MethodPost, "v1/machine/find", filter)
		assert.Empty(t, answers, filter)
		assert.Equal(t, 1, asked, "what it takes does not depend on machines of others: %s", filter)
	}
	for id := range machines {
		status, _ := ask(http.MethodGet, "v1/machine/"+id, "")
		assert.Equal(t, id == "own" || id == "adopted", status == http.StatusOK, id)
	}
}
