// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// machineAnswer has the fields of a V1MachineResponse that clients of a cluster get.
type machineAnswer struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Partition   named             `json:"partition"`
	Rack        string            `json:"rackid"`
	Size        named             `json:"size"`
	Allocation  *allocationAnswer `json:"allocation"`
	Liveliness  string            `json:"liveliness"`
	State       machineState      `json:"state"`
	Events      eventsAnswer      `json:"events"`
	Tags        []string          `json:"tags"`
	Changed     time.Time         `json:"changed"`
	// Clients read these without looking whether they are there.
	LEDState ledState       `json:"ledstate"`
	BIOS     biosAnswer     `json:"bios"`
	Hardware hardwareAnswer `json:"hardware"`
}

type named struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

type machineState struct {
	Value              string `json:"value"`
	Description        string `json:"description"`
	MetalHammerVersion string `json:"metal_hammer_version"`
}

type ledState struct {
	Value       string `json:"value"`
	Description string `json:"description"`
}

type biosAnswer struct {
	Vendor  string `json:"vendor"`
	Version string `json:"version"`
	Date    string `json:"date"`
}

type hardwareAnswer struct {
	Memory   int64      `json:"memory"`
	CPUCores int        `json:"cpu_cores"`
	Disks    []struct{} `json:"disks"`
	NICs     []struct{} `json:"nics"`
	CPUs     []struct{} `json:"cpus"`
	GPUs     []struct{} `json:"gpus"`
}

type eventsAnswer struct {
	CrashLoop            bool          `json:"crash_loop"`
	FailedMachineReclaim bool          `json:"failed_machine_reclaim"`
	LastEventTime        time.Time     `json:"last_event_time"`
	Log                  []eventAnswer `json:"log"`
}

type eventAnswer struct {
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
}

type allocationAnswer struct {
	UUID        string                 `json:"allocationuuid"`
	Created     time.Time              `json:"created"`
	Creator     string                 `json:"creator"`
	Name        string                 `json:"name"`
	Description string                 `json:"description"`
	Hostname    string                 `json:"hostname"`
	Project     string                 `json:"project"`
	Image       named                  `json:"image"`
	Role        string                 `json:"role"`
	Reinstall   bool                   `json:"reinstall"`
	Succeeded   bool                   `json:"succeeded"`
	Networks    []machineNetworkAnswer `json:"networks"`
	SSHKeys     []string               `json:"ssh_pub_keys"`
	DNSServers  []struct{}             `json:"dns_servers"`
	NTPServers  []struct{}             `json:"ntp_servers"`
}

type machineNetworkAnswer struct {
	NetworkID           string   `json:"networkid"`
	Type                string   `json:"networktype"`
	IPs                 []string `json:"ips"`
	Prefixes            []string `json:"prefixes"`
	DestinationPrefixes []string `json:"destinationprefixes"`
	VRF                 int64    `json:"vrf"`
	ASN                 int64    `json:"asn"`
	NAT                 bool     `json:"nat"`
	Private             bool     `json:"private"`
	Underlay            bool     `json:"underlay"`
	Project             string   `json:"projectid"`
	TypeV2              string   `json:"networktypev2"`
	NATType             string   `json:"nattypev2"`
}

func nameOf(id string) named { return named{ID: id, Name: id} }

// orEmpty is an empty list instead of null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// answerMachine makes the answer of a machine of the cluster. One that the cluster adopted
// shows the cluster id that it would have been given: metal-ccm would ask for it to be
// written, which needs another role.
func (c *Cluster) answerMachine(m *metal.Machine) machineAnswer {
	a := machineAnswer{
		ID: m.ID, Partition: nameOf(m.Partition), Rack: m.Rack, Size: nameOf(m.Size), Liveliness: m.Liveliness,
		State: machineState{Value: m.State}, Tags: c.tagsOf(m), Changed: m.Changed,
		Events: eventsAnswer{CrashLoop: m.CrashLoop, FailedMachineReclaim: m.FailedMachineReclaim, LastEventTime: m.LastEventTime, Log: []eventAnswer{}},
	}
	for _, e := range m.Events {
		a.Events.Log = append(a.Events.Log, eventAnswer{e.Event, e.Time})
	}
	alloc := m.Allocation
	a.Allocation = &allocationAnswer{
		UUID: alloc.UUID, Created: alloc.Created, Creator: alloc.Creator, Name: alloc.Name, Hostname: alloc.Hostname, Project: alloc.Project,
		Image: nameOf(alloc.Image), Role: alloc.Role, Reinstall: alloc.Reinstall, Succeeded: !m.InTransition(), Networks: []machineNetworkAnswer{},
		SSHKeys: []string{}, DNSServers: []struct{}{}, NTPServers: []struct{}{},
	}
	for _, n := range alloc.Networks {
		a.Allocation.Networks = append(a.Allocation.Networks, answerMachineNetwork(&n, alloc.Project))
	}
	a.Hardware = hardwareAnswer{Disks: []struct{}{}, NICs: []struct{}{}, CPUs: []struct{}{}, GPUs: []struct{}{}}
	return a
}

// answerMachineNetwork names the project of a network only if it is known to be that of
// the machine.
func answerMachineNetwork(n *metal.MachineNetwork, project string) machineNetworkAnswer {
	a := machineNetworkAnswer{
		NetworkID: n.NetworkID, Type: n.Type, IPs: orEmpty(n.IPs), Prefixes: orEmpty(n.Prefixes), DestinationPrefixes: orEmpty(n.DestinationPrefixes),
		VRF: n.VRF, ASN: n.ASN, NAT: n.NAT, Private: n.Private, Underlay: n.Underlay, NATType: natType(n.NAT),
	}
	switch {
	case n.Underlay:
		a.TypeV2 = "underlay"
	case !n.Private:
		a.TypeV2 = "external"
	case strings.HasSuffix(n.Type, "unshared"):
		a.TypeV2, a.Project = "child", project
	default:
		a.TypeV2 = "child-shared"
	}
	return a
}

func (c *Cluster) idTag() string { return metal.Tag(metal.TagCluster, c.ID) }

func (c *Cluster) tagsOf(m *metal.Machine) []string {
	var tags []string
	for _, tag := range m.Tags {
		if _, isID := metal.TagValue([]string{tag}, metal.TagCluster); !isID {
			tags = append(tags, tag)
		}
	}
	return append(tags, c.idTag())
}

// owns reports whether a machine is the cluster's: in its project, and either with its tag
// or by its object.
func (r *request) owns(m *metal.Machine) (bool, error) {
	switch {
	case m == nil || m.Allocation == nil || m.Project() != r.cluster.Project:
		return false, nil
	case slices.Contains(m.Tags, r.cluster.idTag()):
		return true, nil
	}
	adopted, err := r.adopted()
	return adopted[m.ID], err
}

func (r *request) machine() (any, error) {
	m, _ := r.server.machines.Machine(r.id)
	owned, err := r.owns(m)
	switch {
	case err != nil:
		return nil, err
	case !owned:
		return nil, notFound("machine", r.id)
	}
	return r.cluster.answerMachine(m), nil
}

// machineFilter has the fields of a V1MachineFindRequest that can be asked for.
type machineFilter struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Partition  string   `json:"partition_id"`
	Rack       string   `json:"rackid"`
	Size       string   `json:"sizeid"`
	State      string   `json:"state_value"`
	Tags       []string `json:"tags"`
	Project    string   `json:"allocation_project"`
	Allocation string   `json:"allocation_name"`
	Hostname   string   `json:"allocation_hostname"`
	Image      string   `json:"allocation_image_id"`
	Role       string   `json:"allocation_role"`
	NetworkIDs []string `json:"network_ids"`
	NetworkIPs []string `json:"network_ips"`
}

func (f *machineFilter) matches(m *metal.Machine, tags []string) bool {
	a := m.Allocation
	equal := func(wanted, is string) bool { return wanted == "" || wanted == is }
	networks, ips := []string{}, []string{}
	for _, n := range a.Networks {
		networks, ips = append(networks, n.NetworkID), append(ips, n.IPs...)
	}
	return equal(f.ID, m.ID) && f.Name == "" && equal(f.Partition, m.Partition) && equal(f.Rack, m.Rack) && equal(f.Size, m.Size) &&
		equal(f.State, m.State) && equal(f.Project, a.Project) && equal(f.Allocation, a.Name) && equal(f.Hostname, a.Hostname) &&
		equal(f.Image, a.Image) && equal(f.Role, a.Role) && containsAll(tags, f.Tags) && containsAll(networks, f.NetworkIDs) && containsAll(ips, f.NetworkIPs)
}

func containsAll(list, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(w string) bool { return !slices.Contains(list, w) })
}

func (r *request) findMachines() (any, error) {
	var filter machineFilter
	if err := r.decodeFilter(&filter); err != nil {
		return nil, err
	}
	return r.machinesThat(&filter)
}

func (r *request) listMachines() (any, error) { return r.machinesThat(&machineFilter{}) }

// machinesThat filters the machines of the cluster. No filter is compared with a machine of
// another: the time that it takes would say what that machine is like.
func (r *request) machinesThat(filter *machineFilter) (any, error) {
	answers := []machineAnswer{}
	for _, m := range r.server.machines.AllocatedIn(r.cluster.Project) {
		owned, err := r.owns(m)
		if err != nil {
			return nil, err
		}
		if owned && filter.matches(m, r.cluster.tagsOf(m)) {
			answers = append(answers, r.cluster.answerMachine(m))
		}
	}
	return answers, nil
}

// updateMachine refuses as the metal-api does for Metal-Edit: the tags of the cluster's
// machines are right.
func (r *request) updateMachine() (any, error) {
	return nil, &apiError{http.StatusForbidden, "machines are changed by their objects in Kubernetes, and not through the metal-api of a cluster"}
}

// health says whether requests are answered, which they are from what was observed while
// the metal-api is away, too.
func (r *request) health() (any, error) {
	return struct {
		Status   string              `json:"status"`
		Message  string              `json:"message"`
		Services map[string]struct{} `json:"services"`
	}{"healthy", "", map[string]struct{}{}}, nil
}
