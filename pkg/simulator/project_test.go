// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"

	projectapi "github.com/metal-stack/metal-go/api/client/project"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// postBackTheProject posts what GET answered, as docs/metal-api.md, Q60.
func postBackTheProject(t testing.TB, s *lab) {
	t.Helper()
	b := &bubble{t, s.Sim}
	got := b.ask("GET", "/v1/project/"+simulator.ProjectA, nil)
	require.Equal(t, 200, got.Status)
	var p map[string]any
	require.NoError(t, json.Unmarshal(got.Body, &p))
	require.Equal(t, 200, b.ask("POST", "/v1/project", p).Status)
}

func TestProjectFind_NoResultIsNull(t *testing.T) {
	t.Parallel()
	b := newBubble(t, simulator.Config{})
	require.Equal(t, "null", string(b.ask("POST", "/v1/project/find", map[string]string{"name": "nope"}).Body))
	require.Equal(t, "[]", string(b.ask("POST", "/v1/network/find", map[string]string{"name": "nope"}).Body))
	require.Equal(t, "[]", string(b.ask("POST", "/v1/machine/find", map[string]string{"id": "nope"}).Body))
	require.Equal(t, "[]", string(b.ask("POST", "/v1/ip/find", map[string]string{"name": "nope"}).Body))
}

// TestProjectUpdate_RefusesLowerVersions: an update that is accepted replaces
// everything.
func TestProjectUpdate_RefusesLowerVersions(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	update := func(version int64, description string) error {
		_, err := s.Client.Project().UpdateProject(projectapi.NewUpdateProjectParams().WithBody(&models.V1ProjectUpdateRequest{
			Meta: &models.V1Meta{ID: simulator.ProjectA, Version: version}, Name: "team-a", TenantID: "acme", Description: description,
		}), nil)
		return err
	}
	require.NoError(t, update(0, "x"))
	refused(t, update(0, "y"), 422, "existing version 1 mismatches entity version 0")
	require.NoError(t, update(50, ""))
	p, err := s.View.Project().FindProject(projectapi.NewFindProjectParams().WithID(simulator.ProjectA), nil)
	require.NoError(t, err)
	require.Equal(t, int64(51), p.Payload.Meta.Version)
	require.Empty(t, p.Payload.Description)
}

// TestProjectUpdate_SameVersionIsAcceptedTwice: two parallel updates of one
// version can both be accepted.
func TestProjectUpdate_SameVersionIsAcceptedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true})
		statuses := make(chan int, 2)
		for range 2 {
			go func() {
				statuses <- b.askFor(context.Background(), "POST", "/v1/project", map[string]any{
					"meta": map[string]any{"id": simulator.ProjectA}, "name": "team-a", "tenant_id": "acme",
				}).Status
			}()
		}
		require.Equal(t, []int{200, 200}, []int{<-statuses, <-statuses})
	})
}
