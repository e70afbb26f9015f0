// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/image"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/ip"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/network"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/partition"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/project"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/size"
)

// cellsOf are the cells of an object but its age, by column.
func cellsOf[T registry.Object](t *testing.T, columns []registry.Column[T], obj T) map[string]string {
	t.Helper()
	cells := map[string]string{}
	for _, c := range columns {
		require.NotEmpty(t, c.Description, c.Name)
		require.NotContains(t, cells, c.Name, "two columns of one name")
		if c.Name != "Age" {
			cells[c.Name] = fmt.Sprint(c.Cell(obj))
		}
	}
	return cells
}

func TestCatalogueTables_ShowWhatASpecCanName(t *testing.T) {
	t.Parallel()
	fifty := time.Now().Add(50*24*time.Hour + time.Hour)
	rangeOf := func(least, most string) *infrastructure.SizeRange {
		return &infrastructure.SizeRange{Min: resource.MustParse(least), Max: resource.MustParse(most)}
	}
	for name, c := range map[string]struct{ got, want map[string]string }{
		"project": {
			cellsOf(t, project.Kind().Columns, &infrastructure.MetalStackProject{Status: infrastructure.MetalStackProjectStatus{
				DisplayName: "team a", Tenant: "metal-stack",
				Quotas:       []infrastructure.ProjectQuota{{Resource: "machines", Limit: new(int64(20)), Used: new(int64(3))}, {Resource: "addresses", Limit: new(int64(9))}},
				Reservations: []infrastructure.SizeReservation{{Size: "c1-large-x86", Partition: "fra-01", Amount: 4, Used: 2}},
			}}),
			map[string]string{"Project": "team a", "Tenant": "metal-stack", "Machines": "3/20", "Addresses": "<unknown>/9", "Reservations": "c1-large-x86 in fra-01: 2/4"},
		},
		"a project without limits": {
			cellsOf(t, project.Kind().Columns, &infrastructure.MetalStackProject{Status: infrastructure.MetalStackProjectStatus{
				Quotas: []infrastructure.ProjectQuota{{Resource: "machines", Used: new(int64(3))}},
			}}),
			map[string]string{"Project": "<none>", "Tenant": "<none>", "Machines": "3", "Addresses": "<none>", "Reservations": "<none>"},
		},
		"partition": {
			cellsOf(t, partition.Kind().Columns, &infrastructure.MetalStackPartition{Status: infrastructure.MetalStackPartitionStatus{
				DisplayName: "Frankfurt 01",
				Capacity: []infrastructure.SizeCapacity{
					{Size: "c1-large-x86", Total: 2, Free: 2, Reserved: 1, Available: 1},
					{Size: "v1-small-x86", Total: 8, Allocated: 3, Free: 2, Available: 2, Faulty: 2, Unavailable: 1},
				},
			}}),
			map[string]string{
				"Total": "10", "Allocated": "3", "Available": "3", "Faulty": "2", "Reserved": "1", "Unavailable": "1",
				"Available-By-Size": "c1-large-x86: 1, v1-small-x86: 2", "Partition": "Frankfurt 01",
			},
		},
		"size": {
			cellsOf(t, size.Kind().Columns, &infrastructure.MetalStackSize{Status: infrastructure.MetalStackSizeStatus{
				Cores: rangeOf("8", "8"), Memory: rangeOf("64Gi", "128Gi"), Description: "large",
				GPUs:   []infrastructure.SizeGPU{{Model: "AD102GL*", Min: 2, Max: 4}, {Model: "GA100*", Min: 1, Max: 1}},
				Images: []infrastructure.SizeImageConstraint{{OS: "debian", Versions: "12"}, {OS: "ubuntu", Versions: ">= 24.04"}},
			}}),
			map[string]string{
				"Cores": "8", "Memory": "64Gi-128Gi", "Storage": "<none>", "GPUs": "2-4 AD102GL*, 1 GA100*", "Images": "debian 12, ubuntu >= 24.04", "Description": "large",
			},
		},
		"image": {
			cellsOf(t, image.Kind().Columns, &infrastructure.MetalStackImage{Status: infrastructure.MetalStackImageStatus{
				OS: "ubuntu", Version: "24.04.20260101", Alias: "ubuntu-24.04", Newest: true, Features: []string{"firewall", "machine"},
				Classification: "supported", ExpirationTime: &metav1.Time{Time: fifty},
			}}),
			map[string]string{
				"OS": "ubuntu", "Version": "24.04.20260101", "Alias": "ubuntu-24.04", "Newest": "true", "Features": "firewall,machine",
				"Classification": "supported", "Expires": "in 50d", "Description": "<none>",
			},
		},
		"an image that has expired": {
			cellsOf(t, image.Kind().Columns, &infrastructure.MetalStackImage{Status: infrastructure.MetalStackImageStatus{
				ExpirationTime: &metav1.Time{Time: time.Now().Add(-5 * 24 * time.Hour)},
			}}),
			map[string]string{
				"OS": "<none>", "Version": "<none>", "Alias": "<none>", "Newest": "false", "Features": "<none>",
				"Classification": "<none>", "Expires": "5d ago", "Description": "<none>",
			},
		},
		"network": {
			cellsOf(t, network.Kind(nil).Columns, &infrastructure.MetalStackNetwork{
				ObjectMeta: metav1.ObjectMeta{Namespace: "team-a"},
				Status: infrastructure.MetalStackNetworkStatus{
					Type: infrastructure.NetworkPrivate, Partition: "fra-01", Prefixes: []string{"10.0.0.0/22", "2001:db8::/64"}, NetworkID: "net-1", DisplayName: "prod",
					UsedIPs: new(int64(5)), AvailableIPs: new(int64(1024)), Ready: true,
					Users: []infrastructure.MetalUser{
						{Kind: "MetalStackCluster", Namespace: "team-a", Name: "prod"}, {Kind: "MetalStackCluster", Namespace: "far", Name: "away"},
						{Kind: "Cluster", ClusterID: "shoot"}, {Kind: "Cluster", ClusterID: "x"}, {Kind: "Cluster", ClusterID: "y"},
					},
				},
			}),
			map[string]string{
				"Type": "Private", "Partition": "fra-01", "Prefixes": "10.0.0.0/22,2001:db8::/64", "Used": "5/1024", "Used-By": "cluster prod, cluster far/away, cluster shoot, 2 more",
				"Ready": "True", "NetworkID": "net-1", "Network": "prod", "Managed": "false",
			},
		},
		"a claim of a network": {
			cellsOf(t, network.Kind(nil).Columns, &infrastructure.MetalStackNetwork{
				Spec: infrastructure.MetalStackNetworkSpec{Partition: "fra-01"}, Status: infrastructure.MetalStackNetworkStatus{Managed: true},
			}),
			map[string]string{
				"Type": "<none>", "Partition": "fra-01", "Prefixes": "<none>", "Used": "<none>", "Used-By": "<none>", "Ready": "False",
				"NetworkID": "<none>", "Network": "<none>", "Managed": "true",
			},
		},
		"address": {
			cellsOf(t, ip.Kind(nil).Columns, &infrastructure.MetalStackIP{
				ObjectMeta: metav1.ObjectMeta{Namespace: "team-a"},
				Status: infrastructure.MetalStackIPStatus{
					Address: "203.0.113.7", NetworkID: "internet", Type: "static", DisplayName: "api", Ready: true,
					Users: []infrastructure.MetalUser{
						{Kind: "MetalStackCluster", Namespace: "team-a", Name: "prod"}, {Kind: "MetalStackMachine", Namespace: "team-a", Name: "worker-1"},
						{Kind: "Service", Namespace: "default", Name: "web", ClusterID: "id-of-prod"},
					},
				},
			}),
			map[string]string{
				"Address": "203.0.113.7", "Network": "internet", "Type": "static", "Ready": "True", "IP": "api", "Managed": "false",
				"Used-By": "control plane of prod, machine worker-1, Service default/web of cluster id-of-prod",
			},
		},
		"a claim of an address": {
			cellsOf(t, ip.Kind(nil).Columns, &infrastructure.MetalStackIP{
				Spec:   infrastructure.MetalStackIPSpec{NetworkID: "internet", Address: "203.0.113.7"},
				Status: infrastructure.MetalStackIPStatus{Managed: true, Users: []infrastructure.MetalUser{{Kind: "Machine", MachineID: "m-1"}}},
			}),
			map[string]string{
				"Address": "203.0.113.7", "Network": "internet", "Type": "<none>", "Ready": "False", "IP": "<none>", "Managed": "true", "Used-By": "machine m-1",
			},
		},
	} {
		require.Equal(t, c.want, c.got, name)
	}
}
