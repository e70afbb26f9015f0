// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// serviceCluster is the cluster of which a Service has, or gets, an address.
type serviceCluster struct {
	p           *Protocol
	id, project string
	// namespace is that of the MetalStackCluster.
	namespace string
}

// AllocateServiceAddress allocates an address for a Service of a workload cluster, which a
// tag names. Called again for the same Service, network and type, it returns the address
// that the Service has. Its errors are *metal.Error: kind Refused with a status if the
// cluster may not have it.
func (p *Protocol) AllocateServiceAddress(ctx context.Context, cluster types.NamespacedName, r metal.IPRequest) (*metal.IP, error) {
	return p.serviceAddressOperation(ctx, cluster, "ip allocate", func(ctx context.Context, c *serviceCluster) (*metal.IP, error) {
		return c.allocate(ctx, r)
	})
}

// SetServicesOfAddress adds tags of Services of the cluster to an address, or removes them,
// so that it has those of tags. Tags of others are kept, whatever tags says of them.
func (p *Protocol) SetServicesOfAddress(ctx context.Context, cluster types.NamespacedName, address string, tags []string) (*metal.IP, error) {
	return p.serviceAddressOperation(ctx, cluster, "ip update", func(ctx context.Context, c *serviceCluster) (*metal.IP, error) {
		return c.setServices(ctx, address, tags)
	})
}

// HoldsNetwork reports whether a MetalStackNetwork of a namespace holds a network, so that it is
// for several clusters.
func (p *Protocol) HoldsNetwork(ctx context.Context, namespace, networkID string) (bool, error) {
	return p.holdsNetwork(ctx, namespace, networkID)
}

// FreeServiceAddress frees an ephemeral address that only Services of the cluster have.
func (p *Protocol) FreeServiceAddress(ctx context.Context, cluster types.NamespacedName, address string) (*metal.IP, error) {
	return p.serviceAddressOperation(ctx, cluster, "ip free", func(ctx context.Context, c *serviceCluster) (*metal.IP, error) {
		return c.free(ctx, address)
	})
}

// serviceAddressOperation does work as the only one on addresses of the project: what it
// reads is what its call finds. It waits for it, or for ctx: then the work continues.
func (p *Protocol) serviceAddressOperation(ctx context.Context, cluster types.NamespacedName, op string, work func(ctx context.Context, c *serviceCluster) (*metal.IP, error)) (*metal.IP, error) {
	project, bound := p.opts.Bindings.Project(cluster.Namespace)
	if !bound {
		return nil, refuseAddress(op, http.StatusForbidden, "namespace %q is not bound to a project", cluster.Namespace)
	}
	if !p.operations.join() {
		return nil, &metal.Error{Kind: metal.Unavailable, Op: op, Message: errInterrupted.Error(), NotSent: true, Err: errInterrupted}
	}
	unlock, err := p.addresses.Lock(ctx, project)
	if err != nil {
		p.operations.leave()
		return nil, &metal.Error{Kind: metal.Busy, Op: op, Message: "not sent: other requests for addresses of the project are in progress", NotSent: true, Err: err}
	}
	type outcome struct {
		ip  *metal.IP
		err error
	}
	ended := make(chan outcome, 1)
	logger := klog.FromContext(ctx).WithValues("operation", op, "namespace", cluster.Namespace, "cluster", cluster.Name)
	go func() {
		defer p.operations.leave()
		defer unlock()
		ctx := klog.NewContext(p.operations.ctx, logger)
		c, err := p.serviceCluster(ctx, cluster, project, op)
		if err != nil {
			ended <- outcome{err: err}
			return
		}
		ip, err := work(ctx, c)
		ended <- outcome{ip, addressError(op, err)}
	}()
	select {
	case o := <-ended:
		return o.ip, o.err
	case <-ctx.Done():
		return nil, &metal.Error{Kind: metal.Uncertain, Op: op, Message: "still in progress when its caller stopped waiting: retry for the outcome", Err: ctx.Err()}
	}
}

// serviceCluster returns the cluster if its Services may have addresses: while a release
// is in progress, or before the allocation, they may not. It is read while the lock is
// held, which a release takes after it has recorded that it began.
func (p *Protocol) serviceCluster(ctx context.Context, cluster types.NamespacedName, project, op string) (*serviceCluster, error) {
	c, err := p.clusters.get(ctx, cluster.Namespace, cluster.Name)
	if err != nil {
		return nil, &metal.Error{Kind: metal.Unavailable, Op: op, Message: "failed to read the record of the cluster: " + shortened(err.Error()), NotSent: true, Err: err}
	}
	id := infrastructure.ClusterID(c.MetalStackCluster)
	allocated := c.allocation().Phase == infrastructure.AllocationAllocated || isExternallyManaged(c)
	if c.DeletionTimestamp != nil || !allocated || id == "" {
		return nil, refuseAddress(op, http.StatusConflict, "cluster %q is not allocated, or is being deleted: its Services get no addresses", cluster.Name)
	}
	return &serviceCluster{p, id, project, cluster.Namespace}, nil
}

func refuseAddress(op string, status int, format string, args ...any) *metal.Error {
	return &metal.Error{Kind: metal.Refused, Op: op, Status: status, Message: fmt.Sprintf(format, args...)}
}

// addressError returns an error that is not the metal-api's as one of it.
func addressError(op string, err error) error {
	var e *metal.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &metal.Error{Kind: metal.Unavailable, Op: op, Message: shortened(err.Error()), Err: err}
}

// checkForm refuses tags of the cluster that name no Service. Others read them.
func (c *serviceCluster) checkForm(op string, tags []string) error {
	for _, tag := range tags {
		if name := strings.TrimPrefix(tag, metal.Tag(metal.TagService, c.id)+"/"); name != tag && !serviceName.MatchString(name) {
			return refuseAddress(op, http.StatusUnprocessableEntity, "tag %q names no Service: must be %s=%s/<namespace>/<name>", shortened(tag), metal.TagService, c.id)
		}
	}
	return nil
}

// serviceName is the namespace and the name of a Service: DNS labels.
var serviceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (c *serviceCluster) isServiceTag(tag string) bool { return metal.IsServiceTag(tag, c.id) }

// ownTag marks an ephemeral address as the cluster's, also while no Service has it.
func (c *serviceCluster) ownTag() string { return metal.Tag(metal.TagCluster, LabelValue(c.id)) }

// isOnlyOurs reports whether an address is ephemeral, and all its tags are the cluster's.
func (c *serviceCluster) isOnlyOurs(ip *metal.IP) bool {
	other := func(tag string) bool { return !c.isServiceTag(tag) && tag != c.ownTag() }
	return ip.Type == metal.TypeEphemeral && len(ip.Tags) > 0 && !slices.ContainsFunc(ip.Tags, other)
}

// isControlPlaneAddress reports whether a cluster of the project has an address for its
// control plane, or names it for that. The endpoint that the control plane's provider brings
// to another cluster may be a Service of this one, and goes with it.
func (c *serviceCluster) isControlPlaneAddress(ctx context.Context, address string) (bool, error) {
	all, err := c.p.clusters.list(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(r *clusterRecord) bool {
		project, _ := c.p.opts.Bindings.Project(r.Namespace)
		counts := r.Spec.AllocatesEndpoint() || infrastructure.ClusterID(r.MetalStackCluster) == c.id
		return project == c.project && r.allocation().Phase != infrastructure.AllocationReleased &&
			(hasAddress(address)(r) || counts && isAddress(r.Spec.ControlPlaneEndpoint.Host, address))
	}), nil
}

func (c *serviceCluster) allocate(ctx context.Context, r metal.IPRequest) (*metal.IP, error) {
	const op = "ip allocate"
	for _, tag := range r.Tags {
		if !c.isServiceTag(tag) {
			return nil, refuseAddress(op, http.StatusForbidden, "tag %q is not of a Service of cluster %s: must be %s=%s/<namespace>/<name>", tag, c.id, metal.TagService, c.id)
		}
	}
	r.Tags = slices.Compact(slices.Sorted(slices.Values(r.Tags)))
	if err := c.checkForm(op, r.Tags); err != nil {
		return nil, err
	}
	if len(r.Tags) != 1 {
		return nil, refuseAddress(op, http.StatusUnprocessableEntity, "an address is for one Service: tags must have one %s=%s/<namespace>/<name>, and have %d", metal.TagService, c.id, len(r.Tags))
	}
	if err := c.checkNetwork(ctx, r.Network); err != nil {
		return nil, err
	}
	key := serviceAddressKey{project: c.project, cluster: c.id, network: r.Network, kind: r.Type, family: r.AddressFamily, tag: r.Tags[0]}
	switch ip, err := c.find(ctx, r); {
	case err != nil:
		return nil, err
	case ip != nil:
		c.p.uncertainAddresses.forget(key)
		if err := c.checkNoCallInFlight(op, ip); err != nil {
			return nil, err
		}
		return ip, nil
	}
	if until, uncertain := c.p.uncertainAddresses.until(key, c.p.clock.Now()); uncertain {
		return nil, &metal.Error{
			Kind: metal.Busy, Op: op, NotSent: true,
			Message: "the answer to an earlier request for the same Service was lost, and it may still be in progress until " + until.UTC().Format(time.RFC3339) + ": retry",
		}
	}
	r.Project = c.project
	if r.Type == metal.TypeEphemeral {
		r.Tags = append(r.Tags, c.ownTag())
	}
	c.p.crashPoint("service-address/begun")
	ip, err := c.p.opts.Metal.AllocateIP(context.WithoutCancel(ctx), r)
	c.p.crashPoint("service-address/called")
	if metal.KindOf(err) != metal.Uncertain {
		return ip, err
	}
	if ip, findErr := c.find(ctx, r); findErr == nil && ip != nil {
		return ip, nil
	}
	c.p.uncertainAddresses.add(key, c.p.clock.Now().Add(c.p.timing.UncertainDuration))
	return nil, err
}

// checkNoCallInFlight refuses an address that a call whose answer was lost may still free,
// or whose tags it may still replace.
func (c *serviceCluster) checkNoCallInFlight(op string, ip *metal.IP) error {
	until, uncertain := c.p.uncertainAddresses.untilOfAddress(ip, c.p.clock.Now())
	if !uncertain {
		return nil
	}
	return &metal.Error{
		Kind: metal.Busy, Op: op, NotSent: true,
		Message: "the answer to an earlier request for address " + ip.Address + " was lost, and it may still be in progress until " + until.UTC().Format(time.RFC3339) + ": retry",
	}
}

// addUncertain adds an update or a free of an address whose answer was lost.
func (c *serviceCluster) addUncertain(ip *metal.IP) {
	key := serviceAddressKey{project: c.project, cluster: c.id, address: ip.Address, allocationUUID: ip.AllocationUUID}
	c.p.uncertainAddresses.add(key, c.p.clock.Now().Add(c.p.timing.UncertainDuration))
}

// replaceTags replaces all tags of an address.
func (c *serviceCluster) replaceTags(ctx context.Context, ip *metal.IP, tags []string) (*metal.IP, error) {
	changed, err := c.p.opts.Metal.SetIPTags(context.WithoutCancel(ctx), ip.Address, tags)
	if metal.KindOf(err) != metal.Uncertain {
		return changed, err
	}
	again, getErr := c.get(ctx, "ip update", ip.Address)
	if getErr == nil && again.AllocationUUID == ip.AllocationUUID && slices.Equal(again.Tags, tags) {
		return again, nil
	}
	c.addUncertain(ip)
	return nil, err
}

// find returns the address that the Service has in the network, nil if it has none.
func (c *serviceCluster) find(ctx context.Context, r metal.IPRequest) (*metal.IP, error) {
	found, err := c.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Project: c.project, Network: r.Network, Type: r.Type, Tags: r.Tags[:1]})
	if err != nil {
		return nil, err
	}
	for _, ip := range found {
		sameFamily := r.AddressFamily == "" || (r.AddressFamily == metal.AddressFamilyIPv6) == strings.Contains(ip.Address, ":")
		if ip.Project == c.project && ip.NetworkID == r.Network && ip.Type == r.Type && sameFamily && slices.Contains(ip.Tags, r.Tags[0]) {
			return ip, nil
		}
	}
	return nil, nil
}

// checkNetwork refuses a network that the cluster may not use, in the metal-api's words
// for one that does not exist.
func (c *serviceCluster) checkNetwork(ctx context.Context, id string) error {
	found, err := c.p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	if err != nil {
		return err
	}
	shared, err := c.p.holdsNetwork(ctx, c.namespace, id)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(n *metal.Network) bool {
		return n.ID == id && (n.UsableByCluster(c.project, c.id) || shared && n.UsableBy(c.project))
	}) {
		if err := c.p.checkNetworksNotReleasing(ctx, id); err != nil {
			return refuseAddress("ip allocate", http.StatusConflict, "%s", err)
		}
		return nil
	}
	return refuseAddress("ip allocate", http.StatusNotFound, "NotFound no network with id %q found", id)
}

// get returns an address of the project.
func (c *serviceCluster) get(ctx context.Context, op, address string) (*metal.IP, error) {
	found, err := c.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address, Project: c.project})
	if err != nil {
		return nil, err
	}
	for _, ip := range found {
		if ip.Address == address && ip.Project == c.project {
			return ip, nil
		}
	}
	return nil, &metal.Error{Kind: metal.NotFound, Op: op, Status: http.StatusNotFound, Message: fmt.Sprintf("NotFound no ip with id %q found", address)}
}

func (c *serviceCluster) setServices(ctx context.Context, address string, wanted []string) (*metal.IP, error) {
	const op = "ip update"
	ip, err := c.get(ctx, op, address)
	if err != nil {
		return nil, err
	}
	if err := c.checkNoCallInFlight(op, ip); err != nil {
		return nil, err
	}
	var tags []string
	for _, tag := range ip.Tags {
		if !c.isServiceTag(tag) || slices.Contains(wanted, tag) {
			tags = append(tags, tag)
		}
	}
	var added []string
	for _, tag := range wanted {
		if c.isServiceTag(tag) && !slices.Contains(tags, tag) {
			tags, added = append(tags, tag), append(added, tag)
		}
	}
	if len(added) > 0 {
		if err := c.checkForm(op, added); err != nil {
			return nil, err
		}
		if err := c.checkAddable(ctx, ip, tags); err != nil {
			return nil, err
		}
	}
	if ip.Type == metal.TypeEphemeral && len(tags) == 0 && len(ip.Tags) > 0 {
		// Without a tag it would not be known to be the cluster's, and not be freed.
		tags = append(tags, c.ownTag())
	}
	slices.Sort(tags)
	if slices.Equal(tags, ip.Tags) {
		return ip, nil
	}
	return c.replaceTags(ctx, ip, tags)
}

// checkAddable refuses an address that Services of the cluster may not have.
func (c *serviceCluster) checkAddable(ctx context.Context, ip *metal.IP, tags []string) error {
	refuse := func(format string, args ...any) error {
		return refuseAddress("ip update", http.StatusConflict, "address %s "+format, append([]any{ip.Address}, args...)...)
	}
	if ip.MachineID() != "" {
		return refuse("is in use by machine %s", ip.MachineID())
	}
	claimed, err := c.isClaimed(ctx, ip)
	if err != nil {
		return err
	}
	services := 0
	for _, tag := range tags {
		key, value, _ := strings.Cut(tag, "=")
		switch {
		case c.isServiceTag(tag):
			services++
		case key == metal.TagService || key == metal.TagCluster && value != LabelValue(c.id):
			return refuse("is in use by another cluster")
		case isReservedTag(tag) && key != metal.TagCluster && !claimed:
			return refuse("is in use by a control plane, or a machine")
		}
	}
	if services > 1 && ip.Type == metal.TypeEphemeral {
		return refuse("is ephemeral, and in use by another Service: an ephemeral address is for one Service")
	}
	return nil
}

// isClaimed reports whether an address is a MetalStackIP's, which Services may have. It is
// refused while that is being released, and if it is a control plane's.
func (c *serviceCluster) isClaimed(ctx context.Context, ip *metal.IP) (bool, error) {
	claim, err := c.p.ipClaim(ctx, c.project, func(r *ipRecord) bool { return r.refersTo(ip.Address, ip.UID()) })
	switch {
	case err != nil:
		return false, err
	case claim == nil && kindOfIP(ip) != ipKind:
		return false, nil
	case claim != nil && claim.allocation().Phase == infrastructure.AllocationReleasing && (!claim.allocation().Adopted || claim.allocation().Address != ip.Address):
		return false, refuseAddress("ip update", http.StatusConflict, "address %s is being released", ip.Address)
	}
	switch found, err := c.isControlPlaneAddress(ctx, ip.Address); {
	case err != nil:
		return false, err
	case found:
		return false, refuseAddress("ip update", http.StatusConflict, "address %s is in use by a control plane", ip.Address)
	}
	return true, nil
}

func (c *serviceCluster) free(ctx context.Context, address string) (*metal.IP, error) {
	const op = "ip free"
	ip, err := c.get(ctx, op, address)
	switch {
	case err != nil:
		return nil, err
	case ip.Type != metal.TypeEphemeral:
		return nil, refuseAddress(op, http.StatusForbidden, "address %s is static: only ephemeral addresses are freed", address)
	case !c.isOnlyOurs(ip):
		return nil, refuseAddress(op, http.StatusForbidden, "address %s is not of Services of cluster %s alone", address, c.id)
	}
	switch found, err := c.isControlPlaneAddress(ctx, address); {
	case err != nil:
		return nil, err
	case found:
		return nil, refuseAddress(op, http.StatusForbidden, "address %s is in use by a control plane", address)
	}
	if err := c.checkNoCallInFlight(op, ip); err != nil {
		return nil, err
	}
	freed, err := c.p.opts.Metal.FreeIP(context.WithoutCancel(ctx), address)
	if metal.KindOf(err) != metal.Uncertain {
		return freed, err
	}
	c.addUncertain(ip)
	if again, getErr := c.get(ctx, op, address); metal.IsNotFound(getErr) || getErr == nil && again.AllocationUUID != ip.AllocationUUID {
		return ip, nil
	}
	return nil, err
}
