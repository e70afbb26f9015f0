// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	project = "10000000-0000-4000-8000-00000000000a"
	// clusterID is the one of the recordings.
	clusterID   = "11111111-1111-4111-8111-111111111111"
	machineID   = "00000000-0000-4000-8000-000000000004"
	network     = "internet-fra-01"
	firstAddr   = "203.0.113.133"
	staticAddr  = "203.0.113.134"
	foreignAddr = "203.0.113.140"
	token       = "a-token"
)

// metalAPI answers what a metal-api with one machine and a few addresses would, and keeps
// what it was asked.
type metalAPI struct {
	t *testing.T

	mu sync.Mutex
	// tags are those of the machine.
	tags []string
	ips  map[string]*address
	// asked are the requests, with what metal-go sends, but for names, as NAME.
	asked []string
}

type address struct {
	Address string   `json:"ipaddress"`
	Network string   `json:"networkid"`
	Project string   `json:"projectid"`
	Type    string   `json:"type"`
	Tags    []string `json:"tags"`
}

func startMetalAPI(t *testing.T) (*metalAPI, string) {
	t.Helper()
	m := &metalAPI{
		t:    t,
		tags: []string{"cluster.metal-stack.io/id=" + clusterID, "machine.metal-stack.io/network.primary.asn=4210000004"},
		ips: map[string]*address{
			staticAddr: {staticAddr, network, project, "static", []string{}},
			// Another cluster's, whose id begins otherwise.
			foreignAddr: {foreignAddr, network, project, "ephemeral", []string{"cluster.metal-stack.io/id/namespace/service=22222222-2222-4222-8222-222222222222/default/web"}},
		},
	}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, server.URL + "/base"
}

func (m *metalAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	assert.Equal(m.t, "Bearer "+token, r.Header.Get("Authorization"))
	body, err := io.ReadAll(r.Body)
	assert.NoError(m.t, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/base/v1/")
	status, answer := m.answer(r.Method, path, body)
	m.asked = append(m.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, path, compact(body))))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	assert.NoError(m.t, json.NewEncoder(w).Encode(answer))
}

func (m *metalAPI) answer(method, path string, body []byte) (status int, answer any) {
	var request struct {
		Address  string   `json:"ipaddress"`
		Hostname string   `json:"allocation_hostname"`
		Network  string   `json:"networkid"`
		Tags     []string `json:"tags"`
	}
	if len(body) > 0 {
		assert.NoError(m.t, json.Unmarshal(body, &request))
	}
	free, isFree := strings.CutPrefix(path, "ip/free/")
	switch {
	case path == "health":
		return http.StatusOK, map[string]any{"status": "healthy"}
	case path == "machine/"+machineID:
		return http.StatusOK, m.machine()
	case path == "machine/find" && request.Hostname == "c1":
		return http.StatusOK, []any{m.machine()}
	case path == "machine/find":
		return http.StatusOK, []any{}
	case method == http.MethodPost && path == "machine":
		return http.StatusForbidden, `{"statuscode":403,"message":"you are not member in one of [k8s_kaas-admin maas-all-all-admin]"}`
	case path == "ip/find":
		found := []*address{}
		for _, key := range []string{firstAddr, staticAddr, foreignAddr} {
			ip := m.ips[key]
			if ip != nil && (request.Address == "" || request.Address == key) && !slices.ContainsFunc(request.Tags, func(tag string) bool { return !slices.Contains(ip.Tags, tag) }) {
				found = append(found, ip)
			}
		}
		return http.StatusOK, found
	case path == "ip/allocate":
		m.ips[firstAddr] = &address{firstAddr, request.Network, project, "ephemeral", request.Tags}
		return http.StatusCreated, m.ips[firstAddr]
	case method == http.MethodPost && path == "ip":
		slices.Sort(request.Tags)
		m.ips[request.Address].Tags = slices.Compact(request.Tags)
		return http.StatusOK, m.ips[request.Address]
	case method == http.MethodDelete && isFree:
		freed := m.ips[free]
		delete(m.ips, free)
		return http.StatusOK, freed
	}
	return http.StatusNotFound, `{"statuscode":404,"message":"404: Page Not Found"}`
}

func (m *metalAPI) machine() any {
	return map[string]any{
		"id": machineID, "tags": m.tags, "partition": map[string]any{"id": "fra-01"}, "size": map[string]any{"id": "v1-small-x86"},
		"allocation": map[string]any{
			"hostname": "c1", "project": project,
			"networks": []any{
				map[string]any{"networkid": "net-a", "networktype": "privateprimaryshared", "ips": []string{"10.0.0.3"}},
				map[string]any{"networkid": network, "networktype": "external", "ips": []string{"203.0.113.200"}},
			},
		},
	}
}

// take returns what was asked since the last time.
func (m *metalAPI) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = nil
	return asked
}

func (m *metalAPI) tagsOf(address string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ip := m.ips[address]; ip != nil {
		return ip.Tags
	}
	return nil
}

// compact is a body without what is null, with names as NAME.
func compact(body []byte) string {
	if len(body) == 0 {
		return ""
	}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&fields); err != nil {
		return string(body)
	}
	for key, value := range fields {
		if value == nil {
			delete(fields, key)
		}
	}
	if _, found := fields["name"]; found {
		fields["name"] = "NAME"
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func serviceTagOf(name string) string {
	return "cluster.metal-stack.io/id/namespace/service=" + clusterID + "/default/" + name
}

func environment(t *testing.T, url string) Environment {
	t.Helper()
	e, err := ReadEnvironment(map[string]string{
		"METAL_API_URL": url, "METAL_AUTH_TOKEN": token, "METAL_PROJECT_ID": project, "METAL_PARTITION_ID": "fra-01", "METAL_CLUSTER_ID": clusterID,
		"METAL_DEFAULT_EXTERNAL_NETWORK_ID": network, "METAL_ADDITIONAL_NETWORKS": "net-a, " + network,
	}, nil)
	require.NoError(t, err)
	return e
}
