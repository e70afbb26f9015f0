// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// users are what uses a network or an address.
type users []string

// maxUsersNamed is how many users a refusal names.
const maxUsersNamed = 3

func (u *users) add(user string) { *u = append(*u, user) }

// refusal refuses to release what has users; nil if there are none.
func (u users) refusal(what string) error {
	if len(u) == 0 {
		return nil
	}
	slices.Sort(u)
	u = slices.Compact(u)
	named, more := u, ""
	if len(u) > maxUsersNamed {
		named, more = u[:maxUsersNamed], fmt.Sprintf(" and %d others", len(u)-maxUsersNamed)
	}
	return refusesInUse(refuse(http.StatusConflict, "%s is in use by %s%s: it is released once nothing uses it", what, strings.Join(named, ", "), more))
}

// usersOfNetwork are the objects of a project whose records name a network, or have an attempt that may
// allocate something in it.
func (p *Protocol) usersOfNetwork(ctx context.Context, project, id string) (users, error) {
	found, err := p.clusterUsers(ctx, project, func(c *clusterRecord) bool {
		return c.Spec.PrivateNetworkID == id || c.Spec.PublicNetworkID == id || hasNetwork(id)(c)
	})
	if err != nil {
		return nil, err
	}
	attempts, err := p.attemptsInNetwork(ctx, project, id)
	return append(found, attempts...), err
}

// clusterUsers are the clusters of a project that are not released, and that match, as users.
func (p *Protocol) clusterUsers(ctx context.Context, project string, matches clusterPredicate) (users, error) {
	var found users
	inProject := p.inProject(project)
	clusters, err := p.clusters.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range clusters {
		if c.allocation().Phase != infrastructure.AllocationReleased && inProject(c.Namespace) && matches(c) {
			found.add(userNamed(objectRef{clusterResource, c.Namespace, c.Name}))
		}
	}
	return found, nil
}

// attemptsInNetwork are the objects of a project that have an attempt which may allocate a machine
// or an address in a network.
func (p *Protocol) attemptsInNetwork(ctx context.Context, project, id string) (users, error) {
	inProject := p.inProject(project)
	found, err := p.clusterUsers(ctx, project, func(c *clusterRecord) bool {
		return c.allocation().Phase == infrastructure.AllocationAllocating && c.Spec.PublicNetworkID == id
	})
	if err != nil {
		return nil, err
	}
	for _, k := range []*machineLikeKind{p.machines, p.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return nil, err
		}
		for _, m := range all {
			if m.allocation().Phase == infrastructure.AllocationAllocating && inProject(m.meta.Namespace) && slices.Contains(m.networks, id) {
				found.add(userNamed(k.refOf(m)))
			}
		}
	}
	ips, err := p.ips.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range ips {
		if i.allocation().Phase == infrastructure.AllocationAllocating && inProject(i.Namespace) && i.Spec.NetworkID == id {
			found.add(userNamed(objectRef{ipResource, i.Namespace, i.Name}))
		}
	}
	return found, nil
}

// inProject returns what reports whether a namespace is bound to a project: objects of others
// may name what they cannot have.
func (p *Protocol) inProject(project string) func(namespace string) bool {
	return func(namespace string) bool {
		bound, _ := p.opts.Bindings.Project(namespace)
		return bound == project
	}
}

// usersOfAddress are the objects whose records name an address of a project.
func (p *Protocol) usersOfAddress(ctx context.Context, project, address string) (users, error) {
	var found users
	inProject := p.inProject(project)
	clusters, err := p.clusters.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range clusters {
		egress := c.Spec.FirewallSpec != nil && isEgressAddress(c.Spec.FirewallSpec.Controller, address)
		if c.allocation().Phase != infrastructure.AllocationReleased && inProject(c.Namespace) &&
			(hasAddress(address)(c) || isAddress(c.Spec.ControlPlaneEndpoint.Host, address) || egress) {
			found.add(userNamed(objectRef{clusterResource, c.Namespace, c.Name}))
		}
	}
	firewalls, err := p.firewalls.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range firewalls {
		if f.allocation().Phase != infrastructure.AllocationReleased && inProject(f.meta.Namespace) && isEgressAddress(f.controller, address) {
			found.add(userNamed(p.firewalls.refOf(f)))
		}
	}
	return found, nil
}

// isEgressAddress reports whether firewall-controllers use an address for connections.
func isEgressAddress(c *infrastructure.FirewallController, address string) bool {
	return c != nil && slices.ContainsFunc(c.EgressIPs, func(e infrastructure.FirewallEgressIPs) bool {
		return slices.ContainsFunc(e.IPs, func(ip string) bool { return isAddress(ip, address) })
	})
}

func userNamed(ref objectRef) string { return ref.kind() + " " + ref.name }

// refuseUntil is why a release waits for calls whose answers were lost.
func (o *operation[R]) refuseUntil(until time.Time) error {
	return o.refuseUncertain(until, "the answer to a request for an address of a Service was lost, and it may still be in progress: retrying")
}

func (o *operation[R]) refuseUncertain(until time.Time, message string) error {
	return &refusal{
		code: http.StatusServiceUnavailable, reason: infrastructure.ReasonReleaseUncertain, message: message,
		retryAfter: max(until.Sub(o.p.clock.Now()), time.Second),
	}
}

// checkNetworksNotReleasing refuses networks whose claims or clusters are being released.
func (p *Protocol) checkNetworksNotReleasing(ctx context.Context, ids ...string) error {
	refusal := func(id string) error {
		return refuse(http.StatusConflict, "network %q is being released: retry, or name another one", id)
	}
	claim, err := p.networkClaim(ctx, func(r *networkRecord) bool {
		a := r.allocation()
		return a.Phase == infrastructure.AllocationReleasing && !a.Adopted && slices.Contains(ids, a.NetworkID)
	})
	switch {
	case err != nil:
		return refusalOf(err)
	case claim != nil:
		return refusal(claim.allocation().NetworkID)
	}
	cluster, err := p.clusterThat(ctx, func(c *clusterRecord) bool {
		a := c.allocation()
		return a.Phase == infrastructure.AllocationReleasing && !a.NetworkAdopted && slices.Contains(ids, a.NetworkID)
	})
	switch {
	case err != nil:
		return refusalOf(err)
	case cluster != nil:
		return refusal(cluster.allocation().NetworkID)
	}
	return nil
}

// BecomeActive tells that this server begins to answer requests, and none before it does any
// more. Until it is called, there was no such server.
func (p *Protocol) BecomeActive() {
	now := p.clock.Now()
	p.activeSince.Store(&now)
}

// excludePredecessor waits until requests of Services that a server before this one sent cannot be
// in flight any more: which they were is in its memory only. Where no cluster has Services, there
// were none.
func (o *operation[R]) excludePredecessor(ctx context.Context, project string) error {
	since := o.p.activeSince.Load()
	if since == nil {
		return nil
	}
	until := since.Add(o.p.timing.UncertainDuration)
	if !o.p.clock.Now().Before(until) {
		return nil
	}
	clusters, err := o.p.clusterUsers(ctx, project, func(c *clusterRecord) bool {
		return c.allocation().Phase != "" || isExternallyManaged(c)
	})
	if err != nil || len(clusters) == 0 {
		return err
	}
	return o.refuseUncertain(until, "a request for an address of a Service may still be in progress from before this server became active: retrying")
}

// IsAddressReleasing reports whether the claim of an address of a project is deleted or being
// released: it is for nothing new.
func (p *Protocol) IsAddressReleasing(ctx context.Context, project, address string) (bool, error) {
	claim, err := p.ipClaim(ctx, project, func(r *ipRecord) bool {
		a := r.allocation()
		return a.Address == address && !a.Adopted && (r.DeletionTimestamp != nil || a.Phase == infrastructure.AllocationReleasing)
	})
	return claim != nil, err
}

// holdsNetwork reports whether a claim of a namespace holds a network: several of its clusters
// may have it.
func (p *Protocol) holdsNetwork(ctx context.Context, namespace, id string) (bool, error) {
	claim, err := p.networkClaim(ctx, func(r *networkRecord) bool {
		a := r.allocation()
		return r.Namespace == namespace && a.Phase == infrastructure.AllocationAllocated && a.NetworkID == id
	})
	return claim != nil, err
}
