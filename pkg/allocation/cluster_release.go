package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// releaseCluster frees the address and then the network of a cluster that has
// no machines any more; what was adopted is kept.
func (p *Protocol) releaseCluster(ctx context.Context, sub objectRef, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	c, err := p.opts.Clusters.Get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := clusterAllocation(c).DeepCopy()
	if err := checkUID(&c.ObjectMeta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationReleased {
		return c, nil
	}
	w, err := p.newClusterOperation(sub, c)
	if err != nil {
		return nil, err
	}
	w.observed, w.dryRun = observedStateOf(&a.AllocationState), IsDryRun(ctx)
	openUntil, freeOpenUntil := p.inFlightUntil(&a.AllocationState), p.freeInFlightUntil(&a.AllocationState)
	if a.Phase == infrastructure.AllocationReleasing {
		if err := p.checkBackoff(&a.AllocationState, c.Status.Conditions); err != nil {
			return nil, err
		}
	} else if err := p.checkMarkedBeforeTakeover(&c.ObjectMeta); err != nil {
		return nil, err
	}
	switch {
	case w.dryRun:
		return c, w.dryRunRelease(ctx, a)
	case a.Phase != infrastructure.AllocationReleasing:
		// Looked at before, so that a release that comes too early changes
		// nothing, and after, so that no machine joins unseen.
		if err := w.checkNoDependents(ctx); err != nil {
			return nil, err
		}
		if err := w.beginRelease(ctx, openUntil); err != nil {
			return nil, err
		}
		p.crashPoint("cluster/releasing")
	}
	// First, since who is held back below says that nothing is open.
	if a.Attempt > 0 {
		if err := w.findUnrecorded(ctx, a, openUntil); err != nil {
			return nil, w.recordReleaseRefusal(ctx, asRefusal(err))
		}
	}
	if err := w.checkNoDependents(ctx); err != nil {
		return nil, w.recordReleaseRefusal(ctx, err)
	}
	if err := w.releaseAddress(ctx, a, freeOpenUntil); err != nil {
		return nil, w.recordReleaseRefusal(ctx, err)
	}
	// An open call of an earlier release was about the address as long as one was
	// recorded: a look that found it gone is enough to go on with the network.
	if w.observed.start == nil {
		freeOpenUntil = time.Time{}
	}
	if err := w.releaseNetwork(ctx, a, freeOpenUntil); err != nil {
		return nil, w.recordReleaseRefusal(ctx, err)
	}
	if a.Attempt > 0 {
		if err := w.releaseDuplicates(ctx, freeOpenUntil); err != nil {
			return nil, w.recordReleaseRefusal(ctx, asRefusal(err))
		}
	}
	return w.recordReleased(ctx)
}

// releaseDuplicates frees what carries our identity and the record never named.
func (w *clusterOperation) releaseDuplicates(ctx context.Context, openUntil time.Time) error {
	for {
		ip, found, err := w.findAddress(ctx)
		if err != nil {
			return err
		}
		if !found {
			break
		}
		if err := w.releaseAddress(ctx, &infrastructure.ClusterAllocation{IPAddress: ip.Address}, openUntil); err != nil {
			return err
		}
	}
	for {
		n, found, err := w.findNetwork(ctx)
		if err != nil || !found {
			return err
		}
		if err := w.releaseNetwork(ctx, &infrastructure.ClusterAllocation{NetworkID: n.ID}, openUntil); err != nil {
			return err
		}
	}
}

// checkNoDependents refuses to release a cluster whose machines hold metal, or are
// getting it.
func (w *clusterOperation) checkNoDependents(ctx context.Context) error {
	n := 0
	for _, k := range []machineLikeRecords{w.machines, w.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return err
		}
		for _, s := range all {
			a := s.allocation()
			if s.meta.Namespace == w.ref.namespace && a.ClusterName == w.ref.name &&
				a.Phase != "" && a.Phase != infrastructure.AllocationReleased {
				n++
			}
		}
	}
	if n > 0 {
		return refuse(http.StatusConflict, "%d of its machines and firewalls hold metal, or are getting it: they are released first", n)
	}
	return nil
}

// findUnrecorded finds what an attempt that was not finished may have allocated.
func (w *clusterOperation) findUnrecorded(ctx context.Context, a *infrastructure.ClusterAllocation, openUntil time.Time) error {
	if a.NetworkID == "" && w.spec.PrivateNetworkID == "" {
		n, found, err := awaitOutcome(ctx, w.Protocol, allocating[*metal.Network]{what: "network", inFlightUntil: openUntil, find: w.findNetwork})
		if err != nil {
			return err
		}
		if found {
			a.NetworkID = n.ID
			if err := w.recordNetwork(ctx, n.ID, false); err != nil {
				return err
			}
		}
	}
	if a.IPAddress == "" && w.spec.ControlPlaneEndpoint.Host == "" {
		ip, found, err := awaitOutcome(ctx, w.Protocol, allocating[*metal.IP]{what: "address", inFlightUntil: openUntil, find: w.findAddress})
		if err != nil {
			return err
		}
		if found {
			a.IPAddress = ip.Address
			return w.recordAddress(ctx, ip.Address, false)
		}
	}
	return nil
}

// releaseAddress frees the control plane address, and records that.
func (w *clusterOperation) releaseAddress(ctx context.Context, a *infrastructure.ClusterAllocation, openUntil time.Time) error {
	if a.IPAddress == "" || a.IPAdopted {
		return nil
	}
	if _, err := ensureFreed(ctx, w.Protocol, releasing{
		what: "address", inFlightUntil: openUntil, begin: w.beginFree, uncertain: w.recordReleaseUncertain,
		look: func(ctx context.Context) (ownership, error) { return w.addressOwnership(ctx, a.IPAddress) },
		call: func(ctx context.Context) error {
			_, err := w.opts.Metal.FreeIP(ctx, a.IPAddress)
			return err
		},
	}); err != nil {
		return err
	}
	w.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: a.IPAddress})
	err := w.recordAddressFreed(ctx)
	w.crashPoint("address/released")
	return err
}

// recordAddressFreed records that the address is gone, and that no call is open
// until the network's, unless somebody else has begun one since.
func (w *clusterOperation) recordAddressFreed(ctx context.Context) error {
	saw := w.observed
	_, err := w.update(ctx, func(_ *infrastructure.MetalStackCluster, r *infrastructure.ClusterAllocation) error {
		r.IPAddress = ""
		if w.observed.matches(&r.AllocationState) {
			r.StartTime = nil
		}
		saw = observedStateOf(&r.AllocationState)
		return nil
	})
	if err == nil && saw.start == nil {
		w.observed = saw
	}
	return err
}

func (w *clusterOperation) addressOwnership(ctx context.Context, address string) (ownership, error) {
	found, err := w.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address})
	if err != nil {
		return owned, err
	}
	for _, ip := range found {
		switch {
		case ip.Address != address:
			continue
		case ip.Project != w.project || ip.UID() != LabelValue(string(w.id.uid)):
			return foreign, nil
		case ip.Holder() != "":
			return owned, refuse(http.StatusConflict, "the control plane address %s is held by machine %s", address, ip.Holder())
		}
		return owned, nil
	}
	return absent, nil
}

// maxEmptyChecks is how often a network is looked at until its last addresses are
// gone, which the metal-api takes away a moment after their machines.
const maxEmptyChecks = 5

// releaseNetwork frees the private network once nothing is in it.
func (w *clusterOperation) releaseNetwork(ctx context.Context, a *infrastructure.ClusterAllocation, openUntil time.Time) error {
	if a.NetworkID == "" || a.NetworkAdopted {
		return nil
	}
	look := func(ctx context.Context) (ownership, error) { return w.networkOwnership(ctx, a.NetworkID) }
	for looked := 1; ; looked++ {
		whose, err := look(ctx)
		if err == nil && whose != owned {
			break
		}
		if err != nil && looked == maxEmptyChecks {
			return asRefusal(err)
		}
		// An address is gone from the list a moment before it is back in its
		// prefix, and a dual-stack network that is freed in between is wrecked
		// for good (docs/metal-api.md, Q50).
		if pauseErr := w.pause(ctx, w.timing.NetworkFreeDelay); pauseErr != nil {
			return pauseErr
		}
		if err == nil {
			break
		}
	}
	w.crashPoint("network/empty")
	if _, err := ensureFreed(ctx, w.Protocol, releasing{
		what: "network", inFlightUntil: openUntil, begin: w.beginFree, look: look, uncertain: w.recordReleaseUncertain,
		call: func(ctx context.Context) error {
			_, err := w.opts.Metal.FreeNetwork(ctx, a.NetworkID)
			return err
		},
	}); err != nil {
		return err
	}
	w.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindNetwork, ID: a.NetworkID})
	return nil
}

// networkOwnership also refuses a network that still has machines or addresses, of
// whatever family.
func (w *clusterOperation) networkOwnership(ctx context.Context, id string) (ownership, error) {
	found, err := w.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	if err != nil {
		return owned, err
	}
	var n *metal.Network
	for _, f := range found {
		if f.ID == id {
			n = f
		}
	}
	switch {
	case n == nil:
		return absent, nil
	case n.Project != w.project || n.UID() != LabelValue(string(w.id.uid)):
		return foreign, nil
	}
	machines, err := w.opts.Metal.FindMachines(ctx, metal.MachineQuery{Networks: []string{id}})
	if err != nil {
		return owned, err
	}
	if len(machines) > 0 {
		return owned, refuse(http.StatusConflict, "%d machines are in the private network %s", len(machines), id)
	}
	addresses, err := w.opts.Metal.FindIPs(ctx, metal.IPQuery{Network: id})
	if err != nil {
		return owned, err
	}
	if len(addresses) > 0 {
		return owned, refuse(http.StatusConflict, "%d addresses of the private network %s are allocated, the first is %s", len(addresses), id, addresses[0].Address)
	}
	return owned, nil
}

// beginRelease records that nothing is allocated for the cluster any more. No
// call that frees is open yet; but an attempt's may be, of which whoever comes
// after a crash has to know.
func (w *clusterOperation) beginRelease(ctx context.Context, openUntil time.Time) error {
	if openUntil.IsZero() {
		return w.beginAt(ctx, nil)
	}
	return w.beginFree(ctx)
}

func (w *clusterOperation) beginFree(ctx context.Context) error {
	return w.beginAt(ctx, w.recordTime())
}

func (w *clusterOperation) beginAt(ctx context.Context, start *metav1.Time) error {
	err := w.updateOnce(ctx, func(ctx context.Context) error {
		_, err := w.updateRecord(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
			if err := w.Protocol.beginFree(&a.AllocationState, w.observed, start); err != nil {
				return err
			}
			if a.UID == "" {
				a.UID = w.id.uid
			}
			w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonReleasing,
				"Network and address are being given back to the metal-api.")
			return nil
		})
		return err
	})
	if err == nil {
		w.observed.phase, w.observed.start = infrastructure.AllocationReleasing, start
	}
	return err
}

// recordReleaseRefusal records why a release does not get on; it is tried again. One that
// somebody else has begun since is theirs to hold back: its call may be open.
func (w *clusterOperation) recordReleaseRefusal(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if _, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase != infrastructure.AllocationReleasing || !w.observed.matches(&a.AllocationState) {
			return nil
		}
		w.backOffRelease(&a.AllocationState, r)
		w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, releaseReason(r), r.message)
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record why a release was refused", "reason", err.Error())
	}
	w.crashPoint("cluster/held-back")
	return r
}

// recordReleaseUncertain says in the record why a release takes so long.
func (w *clusterOperation) recordReleaseUncertain(ctx context.Context, words string) {
	if _, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase == infrastructure.AllocationReleasing && w.observed.matches(&a.AllocationState) {
			w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonReleaseUncertain,
				"The outcome of the release is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

func (w *clusterOperation) recordReleased(ctx context.Context) (*infrastructure.MetalStackCluster, error) {
	c, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase == infrastructure.AllocationReleased {
			return nil
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleased, w.recordTime(), nil
		w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonReleased,
			"Network and address were given back; what was adopted was kept.")
		return nil
	})
	w.crashPoint("cluster/released")
	return c, err
}
