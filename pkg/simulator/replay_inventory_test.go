package simulator_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// recordedDataCentre is the inventory that the recordings list at their
// beginning, without machines: those come later.
func recordedDataCentre(t testing.TB) *simulator.DataCentre {
	t.Helper()
	return &simulator.DataCentre{
		Partitions:        recordedPartitions(t),
		Sizes:             recordedSizes(t),
		Images:            recordedImages(t),
		FilesystemLayouts: recordedLayouts(t),
		Networks:          recordedNetworks(t),
		Tenants:           recordedTenants(t),
		Projects:          recordedProjects(t),
		Machines:          []simulator.Machine{},
	}
}

// listed reads the elements that a list was answered with.
func listed[T any](t testing.TB, file string) []T {
	t.Helper()
	var rec struct {
		Elements []T `json:"response_body"`
	}
	experiment(t, file, &rec)
	require.NotEmpty(t, rec.Elements)
	return rec.Elements
}

type described struct{ ID, Name, Description string }

func recordedPartitions(t testing.TB) (out []simulator.Partition) {
	type partition struct {
		described
		Labels map[string]string
		DNS    []struct{ IP string }      `json:"dns_servers"`
		NTP    []struct{ Address string } `json:"ntp_servers"`
	}
	for _, p := range listed[partition](t, "021-partition-list") {
		q := simulator.Partition{ID: p.ID, Name: p.Name, Description: p.Description, Labels: p.Labels}
		for _, s := range p.DNS {
			q.DNSServers = append(q.DNSServers, s.IP)
		}
		for _, s := range p.NTP {
			q.NTPServers = append(q.NTPServers, s.Address)
		}
		out = append(out, q)
	}
	return out
}

func recordedSizes(t testing.TB) (out []simulator.Size) {
	type size struct {
		described
		Labels      map[string]string
		Constraints []struct {
			Type     string
			Min, Max uint64
		}
	}
	layouts := recordedLayouts(t)
	for _, s := range listed[size](t, "025-size-list") {
		q := simulator.Size{ID: s.ID, Name: s.Name, Description: s.Description, Labels: s.Labels}
		for _, c := range s.Constraints {
			switch c.Type {
			case "cores":
				q.MinCores, q.MaxCores = c.Min, c.Max
			case "memory":
				q.MinMemory, q.MaxMemory = c.Min, c.Max
			case "storage":
				q.MinStorage, q.MaxStorage = c.Min, c.Max
			}
		}
		for _, l := range layouts {
			for _, of := range l.Sizes {
				if of == s.ID {
					q.Disk = l.Device
				}
			}
		}
		out = append(out, q)
	}
	return out
}

func recordedImages(t testing.TB) (out []simulator.Image) {
	type image struct {
		described
		URL            string
		Features       []string
		Classification string
	}
	for _, i := range listed[image](t, "028-image-list") {
		out = append(out, simulator.Image{
			ID: i.ID, Name: i.Name, Description: i.Description, URL: i.URL,
			Features: i.Features, Classification: i.Classification,
		})
	}
	return out
}

func recordedLayouts(t testing.TB) (out []simulator.FilesystemLayout) {
	type layout struct {
		described
		Disks       []struct{ Device string }
		Constraints struct {
			Sizes  []string
			Images map[string]string
		}
	}
	for _, l := range listed[layout](t, "037-filesystemlayout-list") {
		out = append(out, simulator.FilesystemLayout{
			ID: l.ID, Description: l.Description, Device: l.Disks[0].Device,
			Sizes: l.Constraints.Sizes, Images: l.Constraints.Images,
		})
	}
	return out
}

func recordedNetworks(t testing.TB) (out []simulator.Network) {
	type network struct {
		described
		PartitionID, ProjectID        string
		ParentNetworkID               *string
		Labels                        map[string]string
		Prefixes, DestinationPrefixes []string
		DefaultChildPrefixLength      map[string]int
		AdditionalAnnouncableCIDRs    []string `json:"additionalAnnouncableCIDRs"`
		VRF                           uint
		NAT, PrivateSuper, Underlay   bool
		Shared                        bool
	}
	for _, n := range listed[network](t, "041-network-list") {
		require.Nil(t, n.ParentNetworkID)
		out = append(out, simulator.Network{
			ID: n.ID, Name: n.Name, Description: n.Description, Partition: n.PartitionID, Project: n.ProjectID,
			Labels: n.Labels, Prefixes: n.Prefixes, DestinationPrefixes: n.DestinationPrefixes,
			DefaultChildPrefixLength: n.DefaultChildPrefixLength, AdditionalAnnouncableCIDRs: n.AdditionalAnnouncableCIDRs,
			VRF: n.VRF, NAT: n.NAT, PrivateSuper: n.PrivateSuper, Underlay: n.Underlay, Shared: n.Shared,
		})
	}
	return out
}

func recordedTenants(t testing.TB) (out []simulator.Tenant) {
	type tenant struct {
		Meta              struct{ ID string }
		Name, Description string
	}
	for _, e := range listed[tenant](t, "038-tenant-list") {
		out = append(out, simulator.Tenant{ID: e.Meta.ID, Name: e.Name, Description: e.Description})
	}
	return out
}

func recordedProjects(t testing.TB) (out []simulator.Project) {
	type project struct {
		Meta              struct{ ID string }
		Name, Description string
		TenantID          string `json:"tenant_id"`
	}
	for _, p := range listed[project](t, "046-project-find-all") {
		out = append(out, simulator.Project{ID: p.Meta.ID, Name: p.Name, Description: p.Description, Tenant: p.TenantID})
	}
	return out
}

// merge puts recordings in the order of their numbers; of two with one
// number and name the later ones stay.
func merge(recordings, more []*recording) []*recording {
	out := append([]*recording{}, more...)
	for _, rec := range recordings {
		if !containsNumber(more, rec.number) {
			out = append(out, rec)
		}
	}
	sortByNumber(out)
	return out
}

// loadInferred reads what the missing numbers must have been, after their
// neighbours, the README and the real server's rules: same form, one file.
func loadInferred(t testing.TB) []*recording {
	t.Helper()
	var named []struct {
		File string
		*recording
	}
	raw := readFile(t, "testdata/inferred.json")
	require.NoError(t, json.Unmarshal(raw, &named))
	var out []*recording
	for _, n := range named {
		n.recording.file = n.File
		n.number = numberOf(t, n.File)
		if n.User == "" {
			n.User = "Metal-Admin"
		}
		if n.ContentType == "" {
			n.ContentType = "application/json"
		}
		require.True(t, strings.HasPrefix(n.Path, "/v1/"), n.File)
		out = append(out, n.recording)
	}
	sortByNumber(out)
	return out
}

// recordedWithMachines is the recorded data centre with its eight machines,
// which wait.
func recordedWithMachines(t testing.TB) *simulator.DataCentre {
	t.Helper()
	dc := recordedDataCentre(t)
	for _, m := range collectTimelines(t, loadRecordings(t, "testdata/exchanges")).machines {
		dc.Machines = append(dc.Machines, m)
	}
	return dc
}
