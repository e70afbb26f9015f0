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
func (p *Protocol) releaseCluster(ctx context.Context, sub subject, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	c, err := p.opts.Clusters.Get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := clusterAllocation(c).DeepCopy()
	if err := sameObject(&c.ObjectMeta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationReleased {
		return c, nil
	}
	w, err := p.clusterWork(sub, c)
	if err != nil {
		return nil, err
	}
	w.saw, w.dry = sightingOf(&a.AllocationState), IsDryRun(ctx)
	openUntil, freeOpenUntil := p.openUntil(&a.AllocationState), p.freeOpenUntil(&a.AllocationState)
	if a.Phase == infrastructure.AllocationReleasing {
		if err := p.notBefore(&a.AllocationState, c.Status.Conditions); err != nil {
			return nil, err
		}
	} else if err := p.markedBefore(&c.ObjectMeta); err != nil {
		return nil, err
	}
	switch {
	case w.dry:
		return c, w.tryRelease(ctx, a)
	case a.Phase != infrastructure.AllocationReleasing:
		// Looked at before, so that a release that comes too early changes
		// nothing, and after, so that no machine joins unseen.
		if err := w.dependents(ctx); err != nil {
			return nil, err
		}
		if err := w.beginRelease(ctx, openUntil); err != nil {
			return nil, err
		}
		p.at("cluster/releasing")
	}
	// First, since who is held back below says that nothing is open.
	if a.Attempt > 0 {
		if err := w.findLost(ctx, a, openUntil); err != nil {
			return nil, w.holdBack(ctx, asRefusal(err))
		}
	}
	if err := w.dependents(ctx); err != nil {
		return nil, w.holdBack(ctx, err)
	}
	if err := w.releaseAddress(ctx, a, freeOpenUntil); err != nil {
		return nil, w.holdBack(ctx, err)
	}
	// An open call of an earlier release was about the address as long as one was
	// recorded: a look that found it gone is enough to go on with the network.
	if w.saw.start == nil {
		freeOpenUntil = time.Time{}
	}
	if err := w.releaseNetwork(ctx, a, freeOpenUntil); err != nil {
		return nil, w.holdBack(ctx, err)
	}
	if a.Attempt > 0 {
		if err := w.releaseDuplicates(ctx, freeOpenUntil); err != nil {
			return nil, w.holdBack(ctx, asRefusal(err))
		}
	}
	return w.released(ctx)
}

// releaseDuplicates frees what carries our identity and the record never named.
func (w *clusterWork) releaseDuplicates(ctx context.Context, openUntil time.Time) error {
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

// dependents refuses to release a cluster whose machines hold metal, or are
// getting it.
func (w *clusterWork) dependents(ctx context.Context) error {
	n := 0
	for _, k := range []servers{w.machines, w.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return err
		}
		for _, s := range all {
			a := s.allocation()
			if s.meta.Namespace == w.subject.namespace && a.ClusterName == w.subject.name &&
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

// findLost finds what an attempt that was not finished may have allocated.
func (w *clusterWork) findLost(ctx context.Context, a *infrastructure.ClusterAllocation, openUntil time.Time) error {
	if a.NetworkID == "" && w.spec.PrivateNetworkID == "" {
		n, found, err := settle(ctx, w.Protocol, allocating[*metal.Network]{what: "network", openUntil: openUntil, find: w.findNetwork})
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
		ip, found, err := settle(ctx, w.Protocol, allocating[*metal.IP]{what: "address", openUntil: openUntil, find: w.findAddress})
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
func (w *clusterWork) releaseAddress(ctx context.Context, a *infrastructure.ClusterAllocation, openUntil time.Time) error {
	if a.IPAddress == "" || a.IPAdopted {
		return nil
	}
	if _, err := dispose(ctx, w.Protocol, releasing{
		what: "address", openUntil: openUntil, begin: w.beginFree, uncertain: w.releaseUncertain,
		look: func(ctx context.Context) (standing, error) { return w.whoseAddress(ctx, a.IPAddress) },
		call: func(ctx context.Context) error {
			_, err := w.opts.Metal.FreeIP(ctx, a.IPAddress)
			return err
		},
	}); err != nil {
		return err
	}
	w.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: a.IPAddress})
	err := w.recordAddressGone(ctx)
	w.at("address/released")
	return err
}

// recordAddressGone records that the address is gone, and that no call is open
// until the network's, unless somebody else has begun one since.
func (w *clusterWork) recordAddressGone(ctx context.Context) error {
	saw := w.saw
	_, err := w.swap(ctx, func(_ *infrastructure.MetalStackCluster, r *infrastructure.ClusterAllocation) error {
		r.IPAddress = ""
		if w.saw.still(&r.AllocationState) {
			r.StartTime = nil
		}
		saw = sightingOf(&r.AllocationState)
		return nil
	})
	if err == nil && saw.start == nil {
		w.saw = saw
	}
	return err
}

func (w *clusterWork) whoseAddress(ctx context.Context, address string) (standing, error) {
	found, err := w.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address})
	if err != nil {
		return ours, err
	}
	for _, ip := range found {
		switch {
		case ip.Address != address:
			continue
		case ip.Project != w.project || ip.UID() != LabelValue(string(w.id.uid)):
			return theirs, nil
		case ip.Holder() != "":
			return ours, refuse(http.StatusConflict, "the control plane address %s is held by machine %s", address, ip.Holder())
		}
		return ours, nil
	}
	return absent, nil
}

// emptyLooks is how often a network is looked at until its last addresses are
// gone, which the metal-api takes away a moment after their machines.
const emptyLooks = 5

// releaseNetwork frees the private network once nothing is in it.
func (w *clusterWork) releaseNetwork(ctx context.Context, a *infrastructure.ClusterAllocation, openUntil time.Time) error {
	if a.NetworkID == "" || a.NetworkAdopted {
		return nil
	}
	look := func(ctx context.Context) (standing, error) { return w.whoseNetwork(ctx, a.NetworkID) }
	for looked := 1; ; looked++ {
		whose, err := look(ctx)
		if err == nil && whose != ours {
			break
		}
		if err != nil && looked == emptyLooks {
			return asRefusal(err)
		}
		// An address is gone from the list a moment before it is back in its
		// prefix, and a dual-stack network that is freed in between is wrecked
		// for good (docs/metal-api.md, Q50).
		if pauseErr := w.pause(ctx, w.timing.Settle); pauseErr != nil {
			return pauseErr
		}
		if err == nil {
			break
		}
	}
	w.at("network/empty")
	if _, err := dispose(ctx, w.Protocol, releasing{
		what: "network", openUntil: openUntil, begin: w.beginFree, look: look, uncertain: w.releaseUncertain,
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

// whoseNetwork also refuses a network that still has machines or addresses, of
// whatever family.
func (w *clusterWork) whoseNetwork(ctx context.Context, id string) (standing, error) {
	found, err := w.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	if err != nil {
		return ours, err
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
		return theirs, nil
	}
	machines, err := w.opts.Metal.FindMachines(ctx, metal.MachineQuery{Networks: []string{id}})
	if err != nil {
		return ours, err
	}
	if len(machines) > 0 {
		return ours, refuse(http.StatusConflict, "%d machines are in the private network %s", len(machines), id)
	}
	addresses, err := w.opts.Metal.FindIPs(ctx, metal.IPQuery{Network: id})
	if err != nil {
		return ours, err
	}
	if len(addresses) > 0 {
		return ours, refuse(http.StatusConflict, "%d addresses of the private network %s are allocated, the first is %s", len(addresses), id, addresses[0].Address)
	}
	return ours, nil
}

// beginRelease records that nothing is allocated for the cluster any more. No
// call that frees is open yet; but an attempt's may be, of which whoever comes
// after a crash has to know.
func (w *clusterWork) beginRelease(ctx context.Context, openUntil time.Time) error {
	if openUntil.IsZero() {
		return w.beginAt(ctx, nil)
	}
	return w.beginFree(ctx)
}

func (w *clusterWork) beginFree(ctx context.Context) error { return w.beginAt(ctx, w.now()) }

func (w *clusterWork) beginAt(ctx context.Context, start *metav1.Time) error {
	err := w.once(ctx, func(ctx context.Context) error {
		_, err := w.swapOnce(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
			if err := w.Protocol.beginFree(&a.AllocationState, w.saw, start); err != nil {
				return err
			}
			if a.UID == "" {
				a.UID = w.id.uid
			}
			w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonReleasing,
				"Network and address are being given back to the metal-api.")
			return nil
		})
		return err
	})
	if err == nil {
		w.saw.phase, w.saw.start = infrastructure.AllocationReleasing, start
	}
	return err
}

// holdBack records why a release does not get on; it is tried again. One that
// somebody else has begun since is theirs to hold back: its call may be open.
func (w *clusterWork) holdBack(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if _, err := w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase != infrastructure.AllocationReleasing || !w.saw.still(&a.AllocationState) {
			return nil
		}
		w.heldBack(&a.AllocationState, r)
		w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, releaseReasonOf(r), r.words)
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record why a release was refused", "reason", err.Error())
	}
	w.at("cluster/held-back")
	return r
}

// releaseUncertain says in the record why a release takes so long.
func (w *clusterWork) releaseUncertain(ctx context.Context, words string) {
	if _, err := w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase == infrastructure.AllocationReleasing && w.saw.still(&a.AllocationState) {
			w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonReleaseUncertain,
				"The outcome of the release is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

func (w *clusterWork) released(ctx context.Context) (*infrastructure.MetalStackCluster, error) {
	c, err := w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase == infrastructure.AllocationReleased {
			return nil
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleased, w.now(), nil
		w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonReleased,
			"Network and address were given back; what was adopted was kept.")
		return nil
	})
	w.at("cluster/released")
	return c, err
}
