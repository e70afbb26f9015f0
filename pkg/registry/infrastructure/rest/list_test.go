// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
)

func TestRecords_ListEveryKind(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, cluster.Resource, newCluster("cluster-1"))
	create(t, w, machine.Resource, newMachine("node-1"))
	clusters, err := w.Clusters().List(t.Context())
	require.NoError(t, err)
	require.Len(t, clusters, 1, "who looks after records must know of all of them")
	machines, err := w.Machines().List(t.Context())
	require.NoError(t, err)
	require.Len(t, machines, 1, "what was discovered has none")
}

func TestFieldSelectors_SelectByEachField(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, machine.Resource, newMachine("node-1"))
	for selector, want := range map[string][]string{
		"metadata.name=node-1":                         {"node-1"},
		"status.metal.managed=false":                   {foundID},
		"status.metal.managed=true":                    {"node-1"},
		"status.metal.phase=Pending":                   {"node-1"},
		"status.ready=true":                            {foundID},
		"spec.providerID=metal://fra-01/" + foundID:    {foundID},
		"metadata.namespace=team-a,status.ready=false": {"node-1"},
	} {
		parsed, err := fields.ParseSelector(selector)
		require.NoError(t, err)
		list, err := w.all[machine.Resource].main.List(in("team-a"), &metainternalversion.ListOptions{FieldSelector: parsed})
		assert.Equal(t, want, names(t, list, err), selector)
	}
}

func TestRecords_LeaveOutDiscoveredMetal(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, machine.Resource, newMachine("node-1"))
	records, err := w.Machines().List(context.Background())
	require.NoError(t, err)
	require.Len(t, records, 1)
	assert.Equal(t, "node-1", records[0].Name)
	_, err = w.Clusters().Get(request.WithRequestInfo(in("team-a"), &request.RequestInfo{Resource: machine.Resource}), "team-a", "nobody")
	assert.ErrorContains(t, err, cluster.Resource, "the error names the resource that was asked for")
}

// seconds is an age that depends on when the test ran.
const seconds = `^[0-9]+s$`

func TestTable_ShowsColumns(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	m := newMachine("node-1")
	m.Labels = map[string]string{infrastructure.ClusterNameLabel: "cluster-1"}
	create(t, w, machine.Resource, m)
	main := w.all[machine.Resource].main
	list, err := main.List(in("team-a"), &metainternalversion.ListOptions{})
	require.NoError(t, err)
	table, err := main.ConvertToTable(in("team-a"), list, nil)
	require.NoError(t, err)
	var narrow, wide []string
	for _, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			narrow = append(narrow, c.Name)
		} else {
			wide = append(wide, c.Name)
		}
	}
	assert.Equal(t, []string{"Name", "Cluster", "Ready", "Phase", "Liveliness", "Size", "Address", "Age"}, narrow)
	assert.Equal(t, []string{"ProviderID", "Image", "Partition", "Rack", "Issues", "Managed"}, wide)
	require.Len(t, table.Rows, 2)
	assert.Equal(t, []any{foundID, "<none>", "True", "Phoned Home", "Alive", "v1-small-x86", "10.0.0.1", "60m",
		"metal://fra-01/" + foundID, "ubuntu-24.04.1", "fra-01", "rack-1", "<none>", false}, table.Rows[0].Cells)
	assert.Regexp(t, seconds, table.Rows[1].Cells[7])
	assert.Equal(t, []any{"node-1", "cluster-1", "False", "Pending", "<none>", "v1-small-x86", "<none>", table.Rows[1].Cells[7],
		"<none>", "ubuntu-24.04", "<none>", "<none>", "<none>", true}, table.Rows[1].Cells)
	assert.Equal(t, list.(*infrastructure.MetalStackMachineList).ResourceVersion, table.ResourceVersion)
}

func TestList_FirewallsShowTheirController(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	for _, name := range []string{"fw-1", "fw-2"} {
		create(t, w, firewall.Resource, &infrastructure.MetalStackFirewall{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "team-a"}, Spec: infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86"},
		})
	}
	_, err := update(t, w.all[firewall.Resource].status, "fw-2", func(f *infrastructure.MetalStackFirewall) {
		f.Status.Distance, f.Status.Controller = 3, &infrastructure.FirewallControllerStatus{Version: "v2.4.1"}
		f.Status.Conditions = append(f.Status.Conditions, metav1.Condition{Type: infrastructure.ConditionControllerConnected, Status: "True", Reason: "Connected", LastTransitionTime: metav1.Now()})
	})
	require.NoError(t, err)
	main := w.all[firewall.Resource].main
	list, err := main.List(in("team-a"), &metainternalversion.ListOptions{})
	require.NoError(t, err)
	table, err := main.ConvertToTable(in("team-a"), list, nil)
	require.NoError(t, err)
	require.Len(t, table.ColumnDefinitions, 17)
	for i, name := range []string{"Managed", "Distance", "Controller", "Connected"} {
		column := table.ColumnDefinitions[13+i]
		assert.Equal(t, name, column.Name)
		assert.EqualValues(t, 1, column.Priority)
	}
	assert.Equal(t, []any{true, int64(0), "<none>", "<none>"}, table.Rows[0].Cells[13:])
	assert.Equal(t, []any{true, int64(3), "v2.4.1", "True"}, table.Rows[1].Cells[13:])
}
