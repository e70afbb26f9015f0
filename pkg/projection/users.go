// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// The kinds of users, in the order in which they are shown.
const (
	userCluster      = "MetalStackCluster"
	userNetwork      = "MetalStackNetwork"
	userIP           = "MetalStackIP"
	userMachine      = "MetalStackMachine"
	userFirewall     = "MetalStackFirewall"
	userOtherCluster = "Cluster"
	userOtherMachine = "Machine"
	userService      = "Service"
)

var userOrder = []string{userCluster, userNetwork, userIP, userMachine, userFirewall, userOtherCluster, userOtherMachine, userService}

// holders returns the records that refer to metal; nil: none is known.
type holders func(metal.Ref) []runtime.Object

// of returns the objects of a namespace whose records refer to ref, but not the claim of
// the kind and name itself, and the identities under which their metal was allocated.
func (h holders) of(ref metal.Ref, namespace, kind, claim string) (users []infrastructure.MetalUser, uids []string) {
	if h == nil {
		return nil, nil
	}
	for _, record := range h(ref) {
		user, uid := holderOf(record)
		if user.Kind == "" || user.Namespace != namespace {
			continue
		}
		uids = append(uids, uid)
		if user.Kind != kind || user.Name != claim {
			users = append(users, user)
		}
	}
	return users, uids
}

// holderOf is a record as a user of its metal, and the identity that this carries; none for
// what holds no metal.
func holderOf(record runtime.Object) (user infrastructure.MetalUser, uid string) {
	switch o := record.(type) {
	case *infrastructure.MetalStackCluster:
		user = infrastructure.MetalUser{Kind: userCluster, Namespace: o.Namespace, Name: o.Name, ClusterID: infrastructure.ClusterID(o)}
		if o.Status.Allocation != nil {
			uid = string(o.Status.Allocation.UID)
		}
	case *infrastructure.MetalStackNetwork:
		user = infrastructure.MetalUser{Kind: userNetwork, Namespace: o.Namespace, Name: o.Name}
		if o.Status.Allocation != nil {
			uid = string(o.Status.Allocation.UID)
		}
	case *infrastructure.MetalStackIP:
		user = infrastructure.MetalUser{Kind: userIP, Namespace: o.Namespace, Name: o.Name}
		if o.Status.Allocation != nil {
			uid = string(o.Status.Allocation.UID)
		}
	case *infrastructure.MetalStackMachine:
		user = infrastructure.MetalUser{Kind: userMachine, Namespace: o.Namespace, Name: o.Name}
		if o.Status.Allocation != nil {
			user.MachineID, uid = o.Status.Allocation.MachineID, string(o.Status.Allocation.UID)
		}
	case *infrastructure.MetalStackFirewall:
		user = infrastructure.MetalUser{Kind: userFirewall, Namespace: o.Namespace, Name: o.Name}
		if o.Status.Allocation != nil {
			user.MachineID, uid = o.Status.Allocation.MachineID, string(o.Status.Allocation.UID)
		}
	}
	return user, uid
}

// networkUsers are the users of a network of the namespace's project; claim is the name of
// the claim whose status they are for, or empty.
func (h holders) networkUsers(n *metal.Network, namespace, claim string) []infrastructure.MetalUser {
	users, uids := h.of(metal.Ref{Kind: metal.KindNetwork, ID: n.ID}, namespace, userNetwork, claim)
	other := identified(func(key string) string { return n.Labels[key] })
	if other.Kind != "" && !slices.Contains(uids, n.UID()) && (other.Kind != userNetwork || other.Namespace != namespace || other.Name != claim) {
		users = addUser(users, other)
	}
	return sortedUsers(users)
}

// ipUsers are the users of an address of the namespace's project, likewise.
func (h holders) ipUsers(ip *metal.IP, namespace, claim string) []infrastructure.MetalUser {
	users, uids := h.of(metal.Ref{Kind: metal.KindIP, ID: ip.Address}, namespace, userIP, claim)
	for _, tag := range ip.Tags {
		key, value, _ := strings.Cut(tag, "=")
		switch key {
		case metal.TagMachine:
			machines, _ := h.of(metal.Ref{Kind: metal.KindMachine, ID: value}, namespace, "", "")
			if len(machines) == 0 {
				machines = []infrastructure.MetalUser{{Kind: userOtherMachine, MachineID: value}}
			}
			for _, m := range machines {
				users = addUser(users, m)
			}
		case metal.TagService:
			if cluster, service, ok := strings.Cut(value, "/"); ok {
				serviceNamespace, name, _ := strings.Cut(service, "/")
				users = addUser(users, infrastructure.MetalUser{Kind: userService, Namespace: serviceNamespace, Name: name, ClusterID: cluster})
			}
		}
	}
	other := identified(func(key string) string { value, _ := metal.TagValue(ip.Tags, key); return value })
	if other.Kind != "" && !slices.Contains(uids, ip.UID()) && (other.Kind != userIP || other.Namespace != namespace || other.Name != claim) {
		users = addUser(users, other)
	}
	return sortedUsers(users)
}

// identified is what metal says itself that it was allocated for: a claim, or a cluster. A cluster
// id alone is that of a cluster that is not ours.
func identified(value func(key string) string) infrastructure.MetalUser {
	kind, cluster := value(metal.TagKind), value(metal.TagCluster)
	switch {
	case value(metal.TagUID) != "" && (kind == userNetwork || kind == userIP):
		return infrastructure.MetalUser{Kind: kind, Namespace: value(metal.TagNamespace), Name: value(metal.TagName)}
	case value(metal.TagUID) != "":
		return infrastructure.MetalUser{Kind: userCluster, Namespace: value(metal.TagNamespace), Name: value(metal.TagName), ClusterID: cluster}
	case cluster != "":
		return infrastructure.MetalUser{Kind: userOtherCluster, ClusterID: cluster}
	}
	return infrastructure.MetalUser{}
}

// addUser adds a user, unless the same is there, or one of the same cluster is there and
// user says no more than its id.
func addUser(users []infrastructure.MetalUser, user infrastructure.MetalUser) []infrastructure.MetalUser {
	known := func(u infrastructure.MetalUser) bool {
		same := u.Kind == user.Kind && u.Namespace == user.Namespace && u.Name == user.Name
		switch user.Kind {
		case userOtherCluster:
			return u.ClusterID == user.ClusterID
		case userOtherMachine:
			return u.MachineID == user.MachineID
		case userService:
			return same && u.ClusterID == user.ClusterID
		}
		return same
	}
	if slices.ContainsFunc(users, known) {
		return users
	}
	return append(users, user)
}

func sortedUsers(users []infrastructure.MetalUser) []infrastructure.MetalUser {
	slices.SortFunc(users, func(a, b infrastructure.MetalUser) int {
		return cmp.Or(
			cmp.Compare(slices.Index(userOrder, a.Kind), slices.Index(userOrder, b.Kind)), cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.ClusterID, b.ClusterID), cmp.Compare(a.MachineID, b.MachineID))
	})
	return users
}
