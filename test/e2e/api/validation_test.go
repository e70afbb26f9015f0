// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bad input gets an answer that names the field, the value and what is allowed.
func TestInvalidInput_NamesFieldAndCause(t *testing.T) {
	t.Parallel()
	env := start(t)
	for name, c := range map[string]struct {
		spoil func(m *machineT)
		code  int
		says  []string
	}{
		"unknown size":      {func(m *machineT) { m.Spec.MachineType = "c9-none" }, 422, []string{"spec.machineType", "c9-none", small}},
		"no size":           {func(m *machineT) { m.Spec.MachineType = "" }, 422, []string{"spec.machineType", "Required"}},
		"unknown image":     {func(m *machineT) { m.Spec.Image = "ubuntu-99.04" }, 422, []string{"spec.image", "ubuntu-99.04", image}},
		"firewall image":    {func(m *machineT) { m.Spec.Image = firewallImage }, 422, []string{"spec.image", firewallImage}},
		"unknown partition": {func(m *machineT) { m.Spec.Partition = "nowhere" }, 422, []string{"spec.partition", "nowhere", partition}},
		"unknown network":   {func(m *machineT) { m.Spec.Networks = []string{"no-net"} }, 422, []string{"spec.networks", "no-net"}},
		"no provider ID":    {func(m *machineT) { m.Spec.ProviderID = "aws:///eu/i-1" }, 422, []string{"spec.providerID", "aws:///eu/i-1", "metal://"}},
		"name too long":     {func(m *machineT) { m.Name = strings.Repeat("x", 64) }, 422, []string{"metadata.name", "63"}},
		"2 MiB annotation":  {func(m *machineT) { m.Annotations = map[string]string{"big": strings.Repeat("x", 2<<20)} }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := machine("node-1")
			c.spoil(m)
			_, err := env.machines(teamA).Create(t.Context(), m, metav1.CreateOptions{})
			status := apierrors.APIStatus(nil)
			require.ErrorAs(t, err, &status)
			if c.code != 0 {
				require.EqualValues(t, c.code, status.Status().Code, "%v", err)
			}
			require.GreaterOrEqual(t, status.Status().Code, int32(400))
			require.Less(t, status.Status().Code, int32(500), "%v", err)
			for _, word := range c.says {
				require.ErrorContains(t, err, word)
			}
		})
	}
}

func TestCluster_CannotNameAnotherProject(t *testing.T) {
	t.Parallel()
	env := start(t)
	c := cluster("c1")
	c.Spec.ProjectID = projectB
	_, err := env.clusters(teamA).Create(t.Context(), c, metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err) || apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "spec.projectID")
	require.ErrorContains(t, err, projectB)

	c.Spec.ProjectID = ""
	created, err := env.clusters(teamA).Create(t.Context(), c, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Equal(t, projectA, created.Spec.ProjectID, "it defaults to the namespace's project")
	require.EqualValues(t, 6443, created.Spec.ControlPlaneEndpoint.Port)
	created.Spec.ProjectID = projectB
	_, err = env.clusters(teamA).Update(t.Context(), created, metav1.UpdateOptions{})
	require.Error(t, err)
	require.ErrorContains(t, err, "spec.projectID")
}

func TestMalformedBody_IsBadRequest(t *testing.T) {
	t.Parallel()
	env := start(t)
	post := func(body, query string) (int, string) {
		req := env.client.InfrastructureV1alpha4().RESTClient().Post().Namespace(teamA).Resource("metalstackmachines").
			SetHeader("Content-Type", "application/json").Body([]byte(body))
		if query != "" {
			req = req.Param("fieldValidation", query)
		}
		res := req.Do(t.Context())
		code := 0
		res.StatusCode(&code)
		return code, errText(res.Error())
	}
	for _, body := range []string{`{`, `[]`, `"x"`, `{"kind":"MetalStackMachine"`, "\x00\x01", `{"kind":"Pod","apiVersion":"v1"}`} {
		code, text := post(body, "")
		require.Equal(t, http.StatusBadRequest, code, "%q: %s", body, text)
	}
	code, text := post(`{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","metadata":{"name":"n"},`+
		`"spec":{"image":"`+image+`","machineType":"`+small+`","colour":"red"}}`, "Strict")
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, text, `unknown field "spec.colour"`)
}
