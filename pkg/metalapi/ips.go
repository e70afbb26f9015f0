// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ipAnswer has the fields of a V1IPResponse.
type ipAnswer struct {
	Address        string    `json:"ipaddress"`
	Name           string    `json:"name"`
	Description    string    `json:"description"`
	Project        string    `json:"projectid"`
	Network        string    `json:"networkid"`
	Type           string    `json:"type"`
	Tags           []string  `json:"tags"`
	AllocationUUID string    `json:"allocationuuid"`
	Created        time.Time `json:"created"`
	Changed        time.Time `json:"changed"`
}

// answerIP leaves out the tag that says which cluster an address belongs to: metal-ccm
// takes every address that has it for one of a Service, the control plane's, too, and frees
// only addresses without a tag.
func answerIP(ip *metal.IP) ipAnswer {
	return ipAnswer{
		Address: ip.Address, Name: ip.Name, Description: ip.Description, Project: ip.Project, Network: ip.NetworkID, Type: ip.Type,
		Tags: shownTags(ip), AllocationUUID: ip.AllocationUUID, Created: ip.Created, Changed: ip.Changed,
	}
}

func shownTags(ip *metal.IP) []string {
	tags := []string{}
	for _, tag := range ip.Tags {
		if _, isID := metal.TagValue([]string{tag}, metal.TagCluster); !isID {
			tags = append(tags, tag)
		}
	}
	return tags
}

// ipFilter has the fields of a V1IPFindRequest that can be asked for.
type ipFilter struct {
	Address        string   `json:"ipaddress"`
	Name           string   `json:"name"`
	Project        string   `json:"projectid"`
	Network        string   `json:"networkid"`
	Prefix         string   `json:"networkprefix"`
	Machine        string   `json:"machineid"`
	Type           string   `json:"type"`
	Tags           []string `json:"tags"`
	AllocationUUID string   `json:"allocationuuid"`
	AddressFamily  string   `json:"addressfamily"`
}

func (f *ipFilter) matches(ip *metal.IP) bool {
	equal := func(wanted, is string) bool { return wanted == "" || wanted == is }
	return equal(f.Address, ip.Address) && equal(f.Name, ip.Name) && equal(f.Project, ip.Project) && equal(f.Network, ip.NetworkID) &&
		equal(f.Machine, ip.MachineID()) && equal(f.Type, ip.Type) && equal(f.AllocationUUID, ip.AllocationUUID) &&
		equal(f.AddressFamily, addressFamilyOf(ip.Address)) && containsAll(shownTags(ip), f.Tags) && f.inPrefix(ip)
}

func (f *ipFilter) inPrefix(ip *metal.IP) bool {
	if f.Prefix == "" {
		return true
	}
	prefix, prefixErr := netip.ParsePrefix(f.Prefix)
	address, addressErr := netip.ParseAddr(ip.Address)
	return prefixErr == nil && addressErr == nil && prefix.Contains(address)
}

func addressFamilyOf(address string) string {
	parsed, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return ""
	case parsed.Is4():
		return metal.AddressFamilyIPv4
	}
	return metal.AddressFamilyIPv6
}

// checkAddressFamily is in the metal-api's words.
func checkAddressFamily(family string) error {
	if family != "" && family != metal.AddressFamilyIPv4 && family != metal.AddressFamilyIPv6 {
		return &apiError{http.StatusBadRequest, fmt.Sprintf("given addressfamily:%q is invalid", family)}
	}
	return nil
}

// unknownAddressTTL is how old the addresses may be if one of them is asked for and not
// there: it may have been allocated for a Service a moment ago, by somebody else.
const unknownAddressTTL = time.Second

// projectIPs returns the addresses of the project. If one is named that is not there, they
// are read again.
func (r *request) projectIPs(named string) ([]*metal.IP, error) {
	cache := r.server.ips.of(r.cluster.Project)
	all, err := cache.get(r.Context())
	if err == nil && named != "" && r.indexOf(all, named) < 0 {
		all, err = cache.getWithin(r.Context(), unknownAddressTTL)
	}
	return all, err
}

func (r *request) indexOf(all []*metal.IP, address string) int {
	return slices.IndexFunc(all, func(ip *metal.IP) bool { return ip.Address == address && ip.Project == r.cluster.Project })
}

// projectIP returns an address of the project.
func (r *request) projectIP(address string) (*metal.IP, error) {
	all, err := r.projectIPs(address)
	if err != nil {
		return nil, err
	}
	if i := r.indexOf(all, address); i >= 0 {
		return all[i], nil
	}
	return nil, notFound("ip", address)
}

func (r *request) ip() (any, error) {
	ip, err := r.projectIP(r.id)
	if err != nil {
		return nil, err
	}
	return answerIP(ip), nil
}

func (r *request) listIPs() (any, error) { return r.ipsThat(&ipFilter{}) }

func (r *request) findIPs() (any, error) {
	var filter ipFilter
	if err := r.decodeFilter(&filter); err != nil {
		return nil, err
	}
	if err := checkAddressFamily(filter.AddressFamily); err != nil {
		return nil, err
	}
	return r.ipsThat(&filter)
}

func (r *request) ipsThat(filter *ipFilter) (any, error) {
	all, err := r.projectIPs(filter.Address)
	if err != nil {
		return nil, err
	}
	answers := []ipAnswer{}
	for _, ip := range all {
		if ip.Project == r.cluster.Project && filter.matches(ip) {
			answers = append(answers, answerIP(ip))
		}
	}
	return answers, nil
}

// maxText is how long name and description of an address may be, which others read.
const maxText = 256

// ipAllocation is a V1IPAllocateRequest.
type ipAllocation struct {
	Name          string   `json:"name"`
	Description   string   `json:"description"`
	Network       string   `json:"networkid"`
	Project       string   `json:"projectid"`
	Type          string   `json:"type"`
	Tags          []string `json:"tags"`
	AddressFamily string   `json:"addressfamily"`
}

func (r *request) allocateIP() (any, error) {
	var a ipAllocation
	if err := r.decode(&a); err != nil {
		return nil, err
	}
	a.Type = cmp.Or(a.Type, metal.TypeEphemeral)
	switch {
	case a.Network == "":
		return nil, &apiError{http.StatusBadRequest, "networkid should not be empty"}
	case a.Project != "" && a.Project != r.cluster.Project:
		return nil, unknownProject(a.Project)
	case a.Type != metal.TypeEphemeral && a.Type != metal.TypeStatic:
		return nil, &apiError{http.StatusBadRequest, fmt.Sprintf("type %q is invalid: must be %s or %s", a.Type, metal.TypeEphemeral, metal.TypeStatic)}
	case len(a.Name) > maxText || len(a.Description) > maxText:
		return nil, &apiError{http.StatusUnprocessableEntity, fmt.Sprintf("name and description must have at most %d bytes", maxText)}
	}
	if err := checkAddressFamily(a.AddressFamily); err != nil {
		return nil, err
	}
	return r.changed(r.server.addresses.AllocateServiceAddress(r.Context(), r.cluster.NamespacedName, metal.IPRequest{
		Network: a.Network, Name: a.Name, Description: a.Description, Type: a.Type, Tags: a.Tags, AddressFamily: a.AddressFamily,
	}))
}

// ipUpdate is a V1IPUpdateRequest. Name, description and type of an address are kept.
type ipUpdate struct {
	Address     string    `json:"ipaddress"`
	Tags        *[]string `json:"tags"`
	Type        string    `json:"type"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
}

func (r *request) updateIP() (any, error) {
	var u ipUpdate
	if err := r.decode(&u); err != nil {
		return nil, err
	}
	ip, err := r.projectIP(u.Address)
	switch {
	case err != nil:
		return nil, err
	case u.Type != "" && u.Type != ip.Type, u.Name != "" && u.Name != ip.Name, u.Description != "" && u.Description != ip.Description:
		return nil, &apiError{http.StatusForbidden, "only tags of Services are changed through the metal-api of a cluster"}
	case u.Tags == nil:
		return answerIP(ip), nil
	}
	return r.changed(r.server.addresses.SetServicesOfAddress(r.Context(), r.cluster.NamespacedName, u.Address, *u.Tags))
}

func (r *request) freeIP() (any, error) {
	return r.changed(r.server.addresses.FreeServiceAddress(r.Context(), r.cluster.NamespacedName, r.id))
}

// changed answers a write. Reads that come after it read the addresses anew.
func (r *request) changed(ip *metal.IP, err error) (any, error) {
	r.server.ips.of(r.cluster.Project).change()
	if err != nil {
		return nil, err
	}
	return answerIP(ip), nil
}
