// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"slices"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// networkAnswer has the fields of a V1NetworkResponse. It has no usage: that of a shared or
// public network is others', too.
type networkAnswer struct {
	ID                  string            `json:"id"`
	Name                string            `json:"name"`
	Description         string            `json:"description"`
	Partition           string            `json:"partitionid"`
	Project             string            `json:"projectid"`
	Labels              map[string]string `json:"labels"`
	Shared              bool              `json:"shared"`
	Prefixes            []string          `json:"prefixes"`
	DestinationPrefixes []string          `json:"destinationprefixes"`
	NAT                 bool              `json:"nat"`
	PrivateSuper        bool              `json:"privatesuper"`
	Underlay            bool              `json:"underlay"`
	VRF                 int64             `json:"vrf"`
	Parent              string            `json:"parentnetworkid"`
	Type                string            `json:"networktype"`
	NATType             string            `json:"nattype"`
	Usage               usageAnswer       `json:"usage"`
	Consumption         struct{}          `json:"consumption"`
}

type usageAnswer struct {
	AvailableIPs      int64 `json:"available_ips"`
	AvailablePrefixes int64 `json:"available_prefixes"`
	UsedIPs           int64 `json:"used_ips"`
	UsedPrefixes      int64 `json:"used_prefixes"`
}

func natType(nat bool) string {
	if nat {
		return "ipv4-masq"
	}
	return "none"
}

// answerNetwork shows labels only of networks of the project.
func (c *Cluster) answerNetwork(n *metal.Network) networkAnswer {
	a := networkAnswer{
		ID: n.ID, Name: n.Name, Partition: n.Partition, Shared: n.Shared, Prefixes: orEmpty(n.Prefixes), DestinationPrefixes: []string{},
		NAT: n.NAT, VRF: n.VRF, Parent: n.ParentNetworkID, Type: "external", NATType: natType(n.NAT), Labels: map[string]string{},
	}
	switch {
	case n.ParentNetworkID != "" && n.Shared:
		a.Type = "child-shared"
	case n.ParentNetworkID != "":
		a.Type = "child"
	}
	if n.Project == c.Project {
		a.Project, a.Labels = n.Project, n.Labels
	}
	return a
}

func (r *request) usableNetworks() ([]*metal.Network, error) {
	all, err := r.server.networks.get(r.Context())
	if err != nil {
		return nil, err
	}
	var usable []*metal.Network
	for _, n := range all {
		ok := n.UsableByCluster(r.cluster.Project, r.cluster.ID)
		if !ok && n.UsableBy(r.cluster.Project) {
			if ok, err = r.server.addresses.HoldsNetwork(r.Context(), r.cluster.Namespace, n.ID); err != nil {
				return nil, err
			}
		}
		if ok {
			usable = append(usable, n)
		}
	}
	return usable, nil
}

func (r *request) network() (any, error) {
	all, err := r.usableNetworks()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(n *metal.Network) bool { return n.ID == r.id })
	if i < 0 {
		return nil, notFound("network", r.id)
	}
	return r.cluster.answerNetwork(all[i]), nil
}

// networkFilter has the fields of a V1NetworkFindRequest that can be asked for.
type networkFilter struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Project   string            `json:"projectid"`
	Partition string            `json:"partitionid"`
	Parent    string            `json:"parentnetworkid"`
	Labels    map[string]string `json:"labels"`
	Prefixes  []string          `json:"prefixes"`
	VRF       int64             `json:"vrf"`
	NAT       *bool             `json:"nat"`
}

func (f *networkFilter) matches(n networkAnswer) bool {
	equal := func(wanted, is string) bool { return wanted == "" || wanted == is }
	for key, value := range f.Labels {
		if n.Labels[key] != value {
			return false
		}
	}
	return equal(f.ID, n.ID) && equal(f.Name, n.Name) && equal(f.Project, n.Project) && equal(f.Partition, n.Partition) && equal(f.Parent, n.Parent) &&
		containsAll(n.Prefixes, f.Prefixes) && (f.VRF == 0 || f.VRF == n.VRF) && (f.NAT == nil || *f.NAT == n.NAT)
}

func (r *request) findNetworks() (any, error) {
	var filter networkFilter
	if err := r.decodeFilter(&filter); err != nil {
		return nil, err
	}
	return r.networksThat(&filter)
}

func (r *request) listNetworks() (any, error) { return r.networksThat(&networkFilter{}) }

func (r *request) networksThat(filter *networkFilter) (any, error) {
	all, err := r.usableNetworks()
	if err != nil {
		return nil, err
	}
	answers := []networkAnswer{}
	for _, n := range all {
		if a := r.cluster.answerNetwork(n); filter.matches(a) {
			answers = append(answers, a)
		}
	}
	return answers, nil
}

type sizeAnswer struct {
	named

	Constraints []constraintAnswer `json:"constraints"`
}

type constraintAnswer struct {
	Type       string `json:"type"`
	Identifier string `json:"identifier,omitempty"`
	Min        int64  `json:"min"`
	Max        int64  `json:"max"`
}

func answerSize(s *metal.Size) (string, any) {
	a := sizeAnswer{named{s.ID, s.Name, s.Description}, []constraintAnswer{}}
	for _, c := range s.Constraints {
		a.Constraints = append(a.Constraints, constraintAnswer{c.Type, c.Identifier, c.Min, c.Max})
	}
	return s.ID, a
}

type imageAnswer struct {
	named

	Features       []string  `json:"features"`
	Classification string    `json:"classification"`
	Expires        time.Time `json:"expirationDate"`
	UsedBy         []string  `json:"usedby"`
}

func answerImage(i *metal.Image) (string, any) {
	return i.ID, imageAnswer{named{i.ID, i.Name, i.Description}, orEmpty(i.Features), i.Classification, i.Expires, []string{}}
}

// imageFilter has the fields of a V1ImageFindRequest.
type imageFilter struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	Features       []string `json:"features"`
	Classification string   `json:"classification"`
	OS             string   `json:"os"`
	Version        string   `json:"version"`
}

func (f *imageFilter) matches(i *metal.Image) bool {
	equal := func(wanted, is string) bool { return wanted == "" || wanted == is }
	dash := max(strings.LastIndex(i.ID, "-"), 0)
	return equal(f.ID, i.ID) && equal(f.Name, i.Name) && containsAll(i.Features, f.Features) && equal(f.Classification, i.Classification) &&
		equal(f.OS, i.ID[:dash]) && equal(f.Version, strings.TrimPrefix(i.ID[dash:], "-"))
}

type partitionAnswer struct {
	named

	Labels     map[string]string `json:"labels"`
	BootConfig struct{}          `json:"bootconfig"`
}

func answerPartition(p *metal.Partition) (string, any) {
	return p.ID, partitionAnswer{named: named{p.ID, p.Name, p.Description}, Labels: p.Labels}
}

// list answers a whole list of what is public, and one those of an id.
func list[T any](r *request, from *cachedList[T], answer func(T) (string, any)) (any, error) {
	return listThat(r, from, func(T) bool { return true }, answer)
}

func listThat[T any](r *request, from *cachedList[T], matches func(T) bool, answer func(T) (string, any)) (any, error) {
	all, err := from.get(r.Context())
	if err != nil {
		return nil, err
	}
	answers := []any{}
	for _, item := range all {
		if matches(item) {
			_, a := answer(item)
			answers = append(answers, a)
		}
	}
	return answers, nil
}

func one[T any](r *request, kind string, from *cachedList[T], answer func(T) (string, any)) (any, error) {
	all, err := from.get(r.Context())
	if err != nil {
		return nil, err
	}
	for _, item := range all {
		if id, a := answer(item); id == r.id {
			return a, nil
		}
	}
	return nil, notFound(kind, r.id)
}

func (r *request) listSizes() (any, error)  { return list(r, r.server.sizes, answerSize) }
func (r *request) size() (any, error)       { return one(r, "size", r.server.sizes, answerSize) }
func (r *request) listImages() (any, error) { return list(r, r.server.images, answerImage) }
func (r *request) image() (any, error)      { return one(r, "image", r.server.images, answerImage) }

func (r *request) findImages() (any, error) {
	var filter imageFilter
	if err := r.decodeFilter(&filter); err != nil {
		return nil, err
	}
	return listThat(r, r.server.images, filter.matches, answerImage)
}

func (r *request) listPartitions() (any, error) { return list(r, r.server.partitions, answerPartition) }
func (r *request) partition() (any, error) {
	return one(r, "partition", r.server.partitions, answerPartition)
}
