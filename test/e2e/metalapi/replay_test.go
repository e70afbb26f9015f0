// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// What the recordings name: the cluster id that metal-ccm was configured with, the network
// of all machines, and the machines of two Nodes.
const (
	recordedCluster = "11111111-1111-4111-8111-111111111111"
	recordedNetwork = "20909b83-85a8-4feb-850c-2bbf1b320c7d"
	nodeC1          = "00000000-0000-4000-8000-000000000004"
	nodeC2          = "00000000-0000-4000-8000-000000000005"
)

// recording is a request that a metal-ccm made of a metal-api, and the answer.
type recording struct {
	file string // 006-A3-service-web-without-ip-post-ip-allocate

	Method      string          `json:"method"`
	Path        string          `json:"path"`
	Request     json.RawMessage `json:"request_body"`
	Status      int             `json:"status"`
	ContentType string          `json:"response_content_type"`
	Response    json.RawMessage `json:"response_body"`
}

func loadRecordings(t *testing.T) (all []recording) {
	t.Helper()
	files, err := filepath.Glob("testdata/metal-ccm/*.json")
	require.NoError(t, err)
	require.Len(t, files, 136)
	slices.Sort(files)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		r := recording{file: strings.TrimSuffix(filepath.Base(f), ".json")}
		require.NoError(t, json.Unmarshal(raw, &r), f)
		all = append(all, r)
	}
	return all
}

// TestMetalAPIOfCluster_AnswersMetalCCMAsTheMetalAPI replays what a metal-ccm asked a
// metal-api in six runs, and compares the answers: status, fields and their types, and the
// values that do not depend on the run. The differences there are, are rows of a table.
func TestMetalAPIOfCluster_AnswersMetalCCMAsTheMetalAPI(t *testing.T) {
	t.Parallel()
	p := newPlayer(t)
	for _, r := range loadRecordings(t) {
		if prepare := p.before(r.file); prepare != nil {
			prepare()
		}
		for _, d := range p.play(&r) {
			if !p.isExpected(r.file, d) {
				assert.Fail(t, "the metal-api answers differently", "%s: %s %s: %s", r.file, r.Method, r.Path, d)
			}
		}
	}
	for i, d := range differences {
		assert.True(t, p.used[i], "no recording shows this difference any longer: %s: %s", d.recordings, d.path)
	}
}

// player replays recordings against the metal-api of a cluster.
type player struct {
	t   *testing.T
	env *environment
	// names are our ids and addresses by those of the recordings.
	names map[string]string
	// controlPlane is the address of the cluster's control plane. The recorded one had none.
	controlPlane string
	// used are the rows of differences that were seen.
	used map[int]bool
}

// newPlayer sets up what was there when the first request was recorded: two Nodes in the
// network of the cluster, of which one has no tag of the cluster, and machines of others.
func newPlayer(t *testing.T) *player {
	t.Helper()
	env := start(t)
	_, err := env.clusters.Create(t.Context(), objects.Cluster("rose"), metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := env.clusters.Allocate(t.Context(), "rose", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	network := c.Status.Network.ID
	tag := "cluster.metal-stack.io/id=" + c.Status.ClusterID
	const zone = "topology.kubernetes.io/zone=fra-01"
	for _, m := range []simulator.AllocateRequest{
		{ID: "00000000-0000-4000-8000-000000000001", Hostname: "a1", Networks: []string{network, simulator.InternetNetwork}},
		{ID: "00000000-0000-4000-8000-000000000003", Hostname: "fw-a", Networks: []string{network, simulator.InternetNetwork}, Firewall: true},
		{ID: nodeC1, Hostname: "c1", Networks: []string{network, simulator.InternetNetwork}, Tags: []string{tag, zone}},
		{ID: nodeC2, Hostname: "c2", Networks: []string{network, simulator.InternetNetwork}, Tags: []string{"plain", zone}},
	} {
		m.Name, m.Project = m.Hostname, projectA
		id, err := env.sim.AllocateFor(m)
		require.NoError(t, err)
		require.NoError(t, env.sim.PhoneHome(id))
	}
	p := &player{t: t, env: env, used: map[int]bool{}, controlPlane: c.Spec.ControlPlaneEndpoint.Host, names: map[string]string{
		recordedCluster: c.Status.ClusterID, recordedNetwork: network,
	}}
	framework.Eventually(t, time.Minute, func(ctx context.Context) error {
		if status, answer := env.ask(t, "GET", "rose", "v1/machine/"+nodeC1, ""); status != 200 {
			return errors.New(answer)
		}
		return nil
	})
	// Without the tag, a machine is the cluster's by its object.
	_, err = env.machines.Create(t.Context(), objects.Machine("c2", objects.InDefaultPartition, func(m *v1alpha4.MetalStackMachine) {
		m.Spec.ProviderID = "metal://fra-01/" + nodeC2
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = env.machines.Allocate(t.Context(), "c2", &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "rose"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return p
}

// before is what others did before a recording was made.
func (p *player) before(file string) func() {
	allocated := func(name, recorded string) func() {
		return func() {
			address, err := p.env.sim.AllocateIPFor(projectA, simulator.InternetNetwork, name, nil)
			require.NoError(p.t, err)
			p.names[recorded] = address
			// metal-ccm tries again until it finds it.
			framework.Eventually(p.t, time.Minute, func(context.Context) error {
				if _, answer := p.env.ask(p.t, "POST", "rose", "v1/ip/find", `{"ipaddress":"`+address+`"}`); answer == "[]" {
					return fmt.Errorf("address %s is not found", address)
				}
				return nil
			})
		}
	}
	switch number, _, _ := strings.Cut(file, "-"); number {
	case "012":
		return allocated("fixed", "203.0.113.132")
	case "123":
		return allocated("fixed4", "203.0.113.134")
	}
	return nil
}

// play sends a recorded request, and returns how the answer differs from the recorded one.
func (p *player) play(r *recording) []difference {
	body := ""
	if string(r.Request) != "null" {
		body = p.translate(string(r.Request))
	}
	status, answer := p.env.ask(p.t, r.Method, "rose", strings.TrimPrefix(p.translate(r.Path), "/"), body)
	if status >= 400 {
		var inner string
		require.NoError(p.t, json.Unmarshal([]byte(answer), &inner), "%s: an error has the metal-api's form: %s", r.file, answer)
		require.Contains(p.t, inner, fmt.Sprintf(`{"statuscode":%d,"message":`, status), r.file)
	}
	if status != r.Status {
		return []difference{{path: "status", what: fmt.Sprintf("recorded %d, answered %d: %s", r.Status, status, answer)}}
	}
	var recorded, answered any
	require.NoError(p.t, json.Unmarshal(r.Response, &recorded), r.file)
	require.NoError(p.t, json.Unmarshal([]byte(answer), &answered), r.file)
	if strings.HasSuffix(r.Path, "/ip/allocate") {
		p.names[recorded.(map[string]any)["ipaddress"].(string)] = answered.(map[string]any)["ipaddress"].(string)
	}
	return p.compare(recorded, answered)
}

// names in the recordings: ids, and addresses of Services.
var recordedName = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b(203\.0\.113|198\.51\.100)\.\d+\b`)

// translate puts our names in place of the recorded ones.
func (p *player) translate(s string) string {
	return recordedName.ReplaceAllStringFunc(s, func(name string) string {
		if ours, ok := p.names[name]; ok {
			return ours
		}
		return name
	})
}
