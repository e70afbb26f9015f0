// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	metalgo "github.com/metal-stack/metal-go"
	"github.com/metal-stack/metal-go/api/client/image"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/client/partition"
	"github.com/metal-stack/metal-go/api/client/project"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// through are the calls of experiment 528, by the names that they have there.
type through struct {
	admin, view, wrongKey, nobody, nowhere, elsewhere metalgo.Client
	networkID, machineID                              string
}

func client(t testing.TB, base string, opts ...metalgo.ClientOption) metalgo.Client {
	t.Helper()
	c, err := metalgo.NewClient(base, opts...)
	require.NoError(t, err)
	return c
}

// 528: what a caller of metal-go sees: the type of an error, its code, its
// text and its payload.
func TestReplay528_MetalGo(t *testing.T) {
	t.Parallel()
	sim, err := simulator.New(simulator.Config{BasePath: "/metal", Pick: func(candidates []string) string {
		for _, recorded := range []string{server("3"), "IPv6"} {
			if slices.Contains(candidates, recorded) {
				return recorded
			}
		}
		return candidates[0]
	}})
	require.NoError(t, err)
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	base := srv.URL + "/metal"
	admin := metalgo.HMACAuth(simulator.DefaultHMAC.Admin, "Metal-Admin")
	c := &through{
		admin:     client(t, base, admin),
		view:      client(t, base, metalgo.HMACAuth(simulator.DefaultHMAC.View, "Metal-View")),
		wrongKey:  client(t, base, metalgo.HMACAuth("wrong", "Metal-Admin")),
		nobody:    client(t, base),
		nowhere:   client(t, "http://127.0.0.1:1/metal", admin),
		elsewhere: client(t, srv.URL+"/wrong", admin),
	}
	created, err := c.admin.Network().AllocateNetwork(network.NewAllocateNetworkParams().WithBody(&models.V1NetworkAllocateRequest{
		Projectid: projectA, Partitionid: simulator.DefaultPartition,
	}), nil)
	require.NoError(t, err)
	c.networkID = *created.Payload.ID

	var results []struct {
		Name      string
		GoType    string `json:"go_type"`
		Code      int
		Error     string
		Payload   *struct{ Message string }
		IsURL     bool `json:"is_url_Error"`
		IsExpired bool `json:"is_deadline_exceeded"`
		Note      string
	}
	experiment(t, "528-metal-go-v0.43.1", &results)
	names := newNames()
	for _, want := range results {
		t.Run(want.Name, func(t *testing.T) {
			call, ok := callsThrough[want.Name]
			require.True(t, ok, "not repeated")
			note, err := call(t, c)
			if want.GoType == "" {
				require.NoError(t, err)
				c.compareNotes(t, names, want.Name, want.Note, note)
				return
			}
			require.Error(t, err)
			assert.Equal(t, want.GoType, fmt.Sprintf("%T", err))
			if want.IsURL {
				var urlErr *url.Error
				assert.ErrorAs(t, err, &urlErr)
				assert.Equal(t, want.IsExpired, errors.Is(err, context.DeadlineExceeded))
				return
			}
			assert.Equal(t, anywhere(want.Error), anywhere(err.Error()))
			coded, ok := err.(interface{ Code() int })
			assert.Equal(t, want.Code != 0, ok)
			if ok {
				assert.Equal(t, want.Code, coded.Code())
			}
		})
	}
}

// compareNotes compares what the recorder wrote down about a success.
func (c *through) compareNotes(t *testing.T, names *names, name, want, got string) {
	switch {
	case strings.HasPrefix(want, "{"):
		comparer := newComparer()
		comparer.names = names
		// metal-go's models print times with three digits.
		for _, diff := range comparer.compare(decode(t, []byte(want)), decode(t, []byte(got)), true) {
			assert.Fail(t, name, diff)
		}
	case got != "":
		assert.Equal(t, want, got)
	}
}

var callsThrough = map[string]func(*testing.T, *through) (string, error){
	"machine-get-unknown": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Machine().FindMachine(machine.NewFindMachineParams().WithID("00000000-0000-4000-8000-00000000ffff"), nil)
		return "", err
	},
	"network-get-unknown": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Network().FindNetwork(network.NewFindNetworkParams().WithID("nope"), nil)
		return "", err
	},
	"network-allocate-unknown-partition": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Network().AllocateNetwork(network.NewAllocateNetworkParams().WithBody(&models.V1NetworkAllocateRequest{
			Projectid: projectA, Partitionid: "nope",
		}), nil)
		return "", err
	},
	"network-free-unknown": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Network().FreeNetwork(network.NewFreeNetworkParams().WithID("nope"), nil)
		return "", err
	},
	"machine-free-unknown": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Machine().FreeMachine(machine.NewFreeMachineParams().WithID("00000000-0000-4000-8000-00000000ffff"), nil)
		return "", err
	},
	"machine-allocate-unknown-image": func(_ *testing.T, c *through) (string, error) { return c.allocate("nope-1.0", simulator.SmallSize) },
	"machine-allocate-unknown-size":  func(_ *testing.T, c *through) (string, error) { return c.allocate("ubuntu-24.04", "c9-none") },
	"machine-allocate":               func(_ *testing.T, c *through) (string, error) { return c.allocate("ubuntu-24.04", simulator.SmallSize) },
	"machine-free": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Machine().FreeMachine(machine.NewFreeMachineParams().WithID(c.machineID), nil)
		return "", err
	},
	"ip-allocate-specific":       specific,
	"ip-allocate-specific-taken": specific,
	"ip-free":                    freeSpecific,
	"ip-free-again":              freeSpecific,
	"ip-allocate-exhausted": func(_ *testing.T, c *through) (string, error) {
		for {
			got, err := c.admin.IP().AllocateIP(ip.NewAllocateIPParams().WithBody(&models.V1IPAllocateRequest{
				Networkid: ptr("tiny-fra-01"), Projectid: ptr(projectA),
			}), nil)
			if err != nil {
				return "", err
			}
			defer c.admin.IP().FreeIP(ip.NewFreeIPParams().WithID(*got.Payload.Ipaddress), nil)
		}
	},
	"project-get": func(_ *testing.T, c *through) (string, error) {
		p, err := c.admin.Project().FindProject(project.NewFindProjectParams().WithID(projectA), nil)
		if err != nil {
			return "", err
		}
		return asJSON(p.Payload), nil
	},
	"project-update-stale": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Project().UpdateProject(project.NewUpdateProjectParams().WithBody(&models.V1ProjectUpdateRequest{
			Meta: &models.V1Meta{ID: projectA, Version: -1}, Name: "team-a", TenantID: "acme",
		}), nil)
		return "", err
	},
	"project-find-none": func(_ *testing.T, c *through) (string, error) {
		p, err := c.admin.Project().FindProjects(project.NewFindProjectsParams().WithBody(&models.V1ProjectFindRequest{Name: "nope"}), nil)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("payload nil=%v len=%d", p.Payload == nil, len(p.Payload)), nil
	},
	"machine-find-none": func(_ *testing.T, c *through) (string, error) {
		p, err := c.admin.Machine().FindMachines(machine.NewFindMachinesParams().WithBody(&models.V1MachineFindRequest{AllocationProject: projectB}), nil)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("payload nil=%v len=%d", p.Payload == nil, len(p.Payload)), nil
	},
	"image-latest": func(_ *testing.T, c *through) (string, error) {
		p, err := c.admin.Image().FindLatestImage(image.NewFindLatestImageParams().WithID("ubuntu-24.04"), nil)
		if err != nil {
			return "", err
		}
		return *p.Payload.ID, nil
	},
	"wrong-hmac-key":     func(_ *testing.T, c *through) (string, error) { return partitions(c.wrongKey, nil) },
	"no-auth":            func(_ *testing.T, c *through) (string, error) { return partitions(c.nobody, nil) },
	"connection-refused": func(_ *testing.T, c *through) (string, error) { return partitions(c.nowhere, nil) },
	"context-deadline": func(t *testing.T, c *through) (string, error) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		return partitions(c.admin, ctx)
	},
	"params-timeout": func(_ *testing.T, c *through) (string, error) {
		_, err := c.admin.Machine().ListMachines(machine.NewListMachinesParamsWithTimeout(time.Nanosecond), nil)
		return "", err
	},
	"view-user-allocates": func(_ *testing.T, c *through) (string, error) {
		_, err := c.view.Network().AllocateNetwork(network.NewAllocateNetworkParams().WithBody(&models.V1NetworkAllocateRequest{}), nil)
		return "", err
	},
	"wrong-base-path": func(_ *testing.T, c *through) (string, error) {
		_, err := c.elsewhere.Machine().FindMachine(machine.NewFindMachineParams().WithID("00000000-0000-4000-8000-000000000001"), nil)
		return "", err
	},
	"network-free-in-use": freeNetwork,
	"network-free":        freeNetwork,
}

func ptr[T any](v T) *T { return &v }

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (c *through) allocate(imageID, size string) (string, error) {
	m, err := c.admin.Machine().AllocateMachine(machine.NewAllocateMachineParams().WithBody(&models.V1MachineAllocateRequest{
		Imageid: ptr(imageID), Sizeid: ptr(size), Partitionid: ptr(simulator.DefaultPartition), Projectid: ptr(projectA),
		Name: "mgo", Hostname: "mgo", Tags: []string{"cluster=mgo"},
		Networks: []*models.V1MachineAllocationNetwork{{Networkid: ptr(c.networkID), Autoacquire: ptr(true)}},
	}), nil)
	if err != nil {
		return "", err
	}
	c.machineID = *m.Payload.ID
	return asJSON(m.Payload), nil
}

func specific(_ *testing.T, c *through) (string, error) {
	_, err := c.admin.IP().AllocateSpecificIP(ip.NewAllocateSpecificIPParams().WithIP("203.0.113.222").WithBody(&models.V1IPAllocateRequest{
		Networkid: ptr(simulator.InternetNetwork), Projectid: ptr(projectA),
	}), nil)
	return "", err
}

func freeSpecific(_ *testing.T, c *through) (string, error) {
	_, err := c.admin.IP().FreeIP(ip.NewFreeIPParams().WithID("203.0.113.222"), nil)
	return "", err
}

func freeNetwork(_ *testing.T, c *through) (string, error) {
	_, err := c.admin.Network().FreeNetwork(network.NewFreeNetworkParams().WithID(c.networkID), nil)
	return "", err
}

func partitions(c metalgo.Client, ctx context.Context) (string, error) {
	params := partition.NewListPartitionsParams()
	if ctx != nil {
		params = params.WithContext(ctx)
	}
	_, err := c.Partition().ListPartitions(params, nil)
	return "", err
}
