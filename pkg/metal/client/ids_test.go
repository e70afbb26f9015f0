// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// Whatever is passed as an id, another operation is never called.
func TestClient_SendsNothingForInvalidID(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		machine := e.allocate(simulator.ProjectA)
		var paths []string
		e.transport.Around(func(r *http.Request) { paths = append(paths, r.URL.Path) }, nil)
		for _, id := range []string{
			"", ".", "..", "/", "../machine/" + machine, "..%2Fmachine%2F" + machine, "internet/../../machine/" + machine,
			machine + "/free", machine + "?x=y", machine + "#", "%2e%2e", "a b", "a\nb", "a\x00", "ä", strings.Repeat("a", 254),
		} {
			for name, call := range map[string]func(context.Context, string) error{
				"machine get":  func(ctx context.Context, id string) error { _, err := e.client.Machine(ctx, id); return err },
				"machine free": func(ctx context.Context, id string) error { _, err := e.client.FreeMachine(ctx, id); return err },
				"power":        func(ctx context.Context, id string) error { return e.client.RequestPower(ctx, id, metal.PowerOn) },
				"led":          func(ctx context.Context, id string) error { return e.client.SetLED(ctx, id, true, "") },
				"power state": func(ctx context.Context, id string) error {
					_, err := e.client.PowerState(ctx, id)
					return err
				},
				"console password": func(ctx context.Context, id string) error {
					_, err := e.client.ConsolePassword(ctx, id, "why")
					return err
				},
				"reinstall": func(ctx context.Context, id string) error {
					_, err := e.client.Reinstall(ctx, id, simulator.MachineImage, "")
					return err
				},
				"state": func(ctx context.Context, id string) error {
					_, err := e.client.SetState(ctx, id, metal.StateLocked, "why")
					return err
				},
				"project get":  func(ctx context.Context, id string) error { _, err := e.client.Project(ctx, id); return err },
				"network get":  func(ctx context.Context, id string) error { _, err := e.client.Network(ctx, id); return err },
				"network free": func(ctx context.Context, id string) error { _, err := e.client.FreeNetwork(ctx, id); return err },
				"ip get":       func(ctx context.Context, id string) error { _, err := e.client.IP(ctx, id); return err },
				"ip free":      func(ctx context.Context, id string) error { _, err := e.client.FreeIP(ctx, id); return err },
				"ip allocate": func(ctx context.Context, id string) error {
					if id == "" {
						id = "/" // Without an address, any is asked for.
					}
					_, err := e.client.AllocateIP(ctx, metal.IPRequest{Address: id, Project: simulator.ProjectA, Network: simulator.InternetNetwork})
					return err
				},
			} {
				err := call(t.Context(), id)
				require.Equalf(t, metal.Refused, metal.KindOf(err), "%s %q: %v", name, id, err)
				require.Less(t, len(err.Error()), 200)
			}
		}
		require.Empty(t, paths)

		_, err := e.client.Machine(t.Context(), machine)
		require.NoError(t, err)
		require.Len(t, paths, 1)
	})
}

// Every operation whose path has an id says what that can be.
func TestPathIDs_NameKnownOperations(t *testing.T) {
	t.Parallel()
	for id := range pathIDs {
		require.Contains(t, operations, id)
	}
}
