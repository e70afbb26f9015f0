// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metalgo "github.com/metal-stack/metal-go"
	machineapi "github.com/metal-stack/metal-go/api/client/machine"
	partitionapi "github.com/metal-stack/metal-go/api/client/partition"
	projectapi "github.com/metal-stack/metal-go/api/client/project"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/security"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// raw makes a request with the headers that sign sets and returns status and body.
func raw(t *testing.T, method, url, body string, sign func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if sign != nil {
		sign(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	return resp.StatusCode, string(b)
}

func signedBy(user, key string, at time.Time) func(*http.Request) {
	return func(r *http.Request) {
		mac := security.NewHMACAuth(user, []byte(key))
		mac.AddAuth(r, at, nil)
		r.Header.Set("Content-Type", "application/json")
	}
}

// TestAuth_UnknownUserIsForbidden: requests without credentials, or of an
// unknown user, are answered 403.
func TestAuth_UnknownUserIsForbidden(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	status, body := raw(t, "GET", s.URL+"/v1/partition", "", nil)
	require.Equal(t, 403, status)
	require.Equal(t, `"tenant  not allowed"`, body)
	status, body = raw(t, "GET", s.URL+"/v1/partition", "", signedBy("Metal-Nobody", "x", time.Now()))
	require.Equal(t, 403, status)
	require.Equal(t, `"tenant  not allowed"`, body)
	status, _ = raw(t, "GET", s.URL+"/v1/health", "", nil)
	require.Equal(t, 200, status)
}

func TestAuth_WrongKeyIsForbidden(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	c, err := metalgo.NewClient(s.URL, metalgo.HMACAuth("wrong", "Metal-Admin"))
	require.NoError(t, err)
	_, err = c.Machine().ListMachines(machineapi.NewListMachinesParams(), nil)
	refused(t, err, 403, "")
}

func TestAuth_ChangedKeyReplacesOldOne(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	old := s.Key("Metal-Edit")
	s.Sim.ChangeKeys(simulator.HMACKeys{Edit: "another"})
	status, _ := raw(t, "GET", s.URL+"/v1/partition", "", signedBy("Metal-Edit", old, time.Now()))
	require.Equal(t, 403, status)
	status, _ = raw(t, "GET", s.URL+"/v1/partition", "", signedBy("Metal-Edit", "another", time.Now()))
	require.Equal(t, 200, status)
	status, _ = raw(t, "GET", s.URL+"/v1/partition", "", signedBy("Metal-View", s.Key("Metal-View"), time.Now()))
	require.Equal(t, 200, status, "the others' are as they were")
}

// TestAuth_TimestampExpires: a timestamp is valid for 90 seconds for
// Metal-Admin, and for 30 seconds for others.
func TestAuth_TimestampExpires(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	for user, good := range map[string]time.Duration{"Metal-Admin": 80 * time.Second, "Metal-Edit": 25 * time.Second, "Metal-View": 25 * time.Second} {
		status, _ := raw(t, "GET", s.URL+"/v1/partition", "", signedBy(user, s.Key(user), time.Now().Add(-good)))
		require.Equal(t, 200, status, user)
		status, body := raw(t, "GET", s.URL+"/v1/partition", "", signedBy(user, s.Key(user), time.Now().Add(-good-12*time.Second)))
		require.Equal(t, 403, status, user)
		require.Contains(t, body, "the timestamp in your header is too old")
	}
	status, _ := raw(t, "GET", s.URL+"/v1/partition", "", signedBy("Metal-Admin", s.Key("Metal-Admin"), time.Now().Add(time.Hour)))
	require.Equal(t, 200, status, "the future is accepted")
}

func TestAuth_RolesAllowTheirCalls(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	_, err := s.View.Machine().AllocateMachine(machineapi.NewAllocateMachineParams().WithBody(wanted(nw)), nil)
	refused(t, err, 403, "you are not member in one of [k8s_kaas-edit maas-all-all-edit k8s_kaas-admin maas-all-all-admin]")
	m := s.mustAllocate(wanted(nw))
	update := machineapi.NewUpdateMachineParams().WithBody(&models.V1MachineUpdateRequest{ID: m.ID, Tags: []string{"x"}})
	_, err = s.Edit.Machine().UpdateMachine(update, nil)
	refused(t, err, 403, "you are not member in one of [k8s_kaas-admin maas-all-all-admin]")
	_, err = s.Client.Machine().UpdateMachine(update, nil)
	require.NoError(t, err)
	_, err = s.Edit.Project().UpdateProject(projectapi.NewUpdateProjectParams().WithBody(&models.V1ProjectUpdateRequest{}), nil)
	refused(t, err, 403, "not member")
	_, err = s.View.Partition().ListPartitions(partitionapi.NewListPartitionsParams(), nil)
	require.NoError(t, err)
}

func TestRouter_AnswersUnknownRoutes(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{BasePath: "/metal"})
	admin := signedBy("Metal-Admin", s.Key("Metal-Admin"), time.Now())
	for _, tc := range []struct {
		method, path, body string
		plain              bool
		status             int
		answer             string
	}{
		{"GET", "/v1/nosuchthing", "", false, 404, `"{\"statuscode\":404,\"message\":\"404: Page Not Found\"}"`},
		{"PATCH", "/v1/machine", "", false, 405, `"{\"statuscode\":405,\"message\":\"405: Method Not Allowed\"}"`},
		{"GET", "/v1/partition/", "", false, 200, ""},
		{"POST", "/v1/machine/find", "{}", true, 415, `"{\"statuscode\":415,\"message\":\"415: Unsupported Media Type\"}"`},
		{"POST", "/v1/machine/find", `{"id":`, false, 400, `"{\"statuscode\":400,\"message\":\"unexpected EOF\"}"`},
		{"POST", "/v1/machine/find", `{"id":5}`, false, 400, `"{\"statuscode\":400,\"message\":\"json: cannot unmarshal number into Go struct field MachineSearchQuery.id of type string\"}"`},
		{"POST", "/v1/machine/find", "", false, 400, `"{\"statuscode\":400,\"message\":\"EOF\"}"`},
		{"POST", "/v1/project/find", `{"nosuchfield":1}`, false, 200, ""},
	} {
		status, body := raw(t, tc.method, s.URL+tc.path, tc.body, func(r *http.Request) {
			admin(r)
			if tc.plain {
				r.Header.Del("Content-Type")
			}
		})
		require.Equal(t, tc.status, status, tc)
		if tc.answer != "" {
			require.Equal(t, tc.answer, body)
		}
	}

	wrong, err := metalgo.NewClient(strings.TrimSuffix(s.URL, "/metal"), metalgo.HMACAuth(s.Key("Metal-Admin"), "Metal-Admin"))
	require.NoError(t, err)
	_, err = wrong.Machine().FindMachine(machineapi.NewFindMachineParams().WithID("x"), nil)
	var notFound *machineapi.FindMachineDefault
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, 404, notFound.Code(), "a wrong base path looks like a missing machine")
}
