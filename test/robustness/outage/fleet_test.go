// SPDX-License-Identifier: Apache-2.0

package outage_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	// Of the objects, most are claims, some hold metal that has phoned home, and
	// some are discovered.
	claims, holders, discovered = 4850, 100, 50
	// machines is how large the data centre is: three of four are small.
	machines = 240
)

// fleet is a cluster with many objects in two namespaces: quiet has claims
// only, busy all kinds.
type fleet struct {
	*cluster.Cluster
	quiet, busy cluster.Team
	network     string
	// holds are the ids of the machines that objects hold.
	holds []string
}

// startFleet puts the records into the ledger, as a server would find them that is
// started anew, and starts it.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	opts := cluster.Options{Servers: -1, Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(machines)}}
	teams := opts.AddTeams(2)
	f := &fleet{Cluster: cluster.Start(t, opts), quiet: teams[0], busy: teams[1]}
	for _, team := range teams {
		f.Bind(t, team.Namespace, team.Project)
	}
	var err error
	f.network, err = f.Metal.Sim.AllocateNetworkFor(f.busy.Project, simulator.DefaultPartition, "all", nil)
	require.NoError(t, err)
	records, err := kubernetes.New(f.Admin(), cluster.Namespace)
	require.NoError(t, err)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(32)
	put := func(m *infrastructure.MetalStackMachine) {
		group.Go(func() error {
			object, err := runtime.Encode(scheme.StorageCodec, m)
			if err != nil {
				return err
			}
			value, err := json.Marshal(map[string]json.RawMessage{"object": object})
			if err != nil {
				return err
			}
			_, err = records.Create(ctx, "metalstackmachines/"+m.Namespace+"/"+m.Name, value)
			return err
		})
	}
	for i := range claims {
		namespace := f.quiet.Namespace
		if i%20 == 0 {
			namespace = f.busy.Namespace
		}
		put(record(namespace, fmt.Sprintf("claim-%04d", i)))
	}
	for i := range holders {
		m := record(f.busy.Namespace, fmt.Sprintf("holder-%04d", i))
		id, allocation := f.allocate(t, m.Name, infrastructure.UIDTag+"="+string(m.UID))
		require.NoError(t, f.Metal.Sim.PhoneHome(id))
		f.holds = append(f.holds, id)
		yes, began := true, metav1.Now().Rfc3339Copy()
		m.Spec.ProviderID = "metal://" + simulator.DefaultPartition + "/" + id
		m.Status.Initialization.Provisioned = &yes
		m.Status.Allocation = &infrastructure.MachineAllocation{
			AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, Attempt: 1, UID: m.UID, StartTime: &began},
			MachineID:       id, AllocationUUID: allocation,
		}
		put(m)
	}
	for i := range discovered {
		f.allocate(t, fmt.Sprintf("theirs-%d", i))
	}
	require.NoError(t, group.Wait())

	f.Servers = append(f.Servers, f.StartServer(t))
	f.Servers[0].AwaitReady(t)
	f.AwaitAvailable(t)
	return f
}

func record(namespace, name string) *infrastructure.MetalStackMachine {
	return &infrastructure.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(uuid.NewString()), Generation: 1,
			CreationTimestamp: metav1.Now().Rfc3339Copy(), Finalizers: []string{infrastructure.MachineFinalizer},
		},
		Spec: infrastructure.MetalStackMachineSpec{
			Image: simulator.MachineImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
		},
	}
}

// allocate allocates a machine of the busy team behind the server's back.
func (f *fleet) allocate(t *testing.T, name string, tags ...string) (id, allocation string) {
	t.Helper()
	id, err := f.Metal.Sim.AllocateFor(simulator.AllocateRequest{Project: f.busy.Project, Name: name, Size: simulator.SmallSize,
		Partition: simulator.DefaultPartition, Networks: []string{f.network}, Tags: tags})
	require.NoError(t, err)
	found, err := f.Metal.Client.Machine().FindMachine(machine.NewFindMachineParamsWithContext(t.Context()).WithID(id), nil)
	require.NoError(t, err)
	return id, *found.Payload.Allocation.Allocationuuid
}
