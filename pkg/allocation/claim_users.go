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
	var found users
	inProject := p.inProject(project)
	clusters, err := p.clusters.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range clusters {
		names := c.Spec.PrivateNetworkID == id || c.Spec.PublicNetworkID == id
		if c.allocation().Phase != infrastructure.AllocationReleased && inProject(c.Namespace) && (hasNetwork(id)(c) || names) {
			found.add(userNamed(objectRef{clusterResource, c.Namespace, c.Name}))
		}
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
	return &refusal{
		code: http.StatusServiceUnavailable, reason: infrastructure.ReasonReleaseUncertain, retryAfter: max(until.Sub(o.p.clock.Now()), time.Second),
		message: "the answer to a request for an address of a Service was lost, and it may still be in progress: retrying",
	}
}

// checkNetworksNotReleasing refuses networks whose claims are being released.
func (p *Protocol) checkNetworksNotReleasing(ctx context.Context, ids ...string) error {
	claim, err := p.networkClaim(ctx, func(r *networkRecord) bool {
		a := r.allocation()
		return a.Phase == infrastructure.AllocationReleasing && !a.Adopted && slices.Contains(ids, a.NetworkID)
	})
	switch {
	case err != nil:
		return refusalOf(err)
	case claim != nil:
		return refuse(http.StatusConflict, "network %q is being released: retry, or name another one", claim.allocation().NetworkID)
	}
	return nil
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
