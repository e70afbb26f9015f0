package allocation

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func errNoPartition() error { return refuseSpec("spec.partition is empty") }

// ensureNetwork allocates the private network, or adopts the one that is named.
func (w *clusterOperation) ensureNetwork(ctx context.Context, openUntil time.Time) error {
	if id := w.spec.PrivateNetworkID; id != "" {
		return w.adoptNetwork(ctx, id)
	}
	if w.spec.Partition == "" {
		return errNoPartition()
	}
	n, err := ensureAllocated(ctx, w.Protocol, allocating[*metal.Network]{
		what: "network", inFlightUntil: openUntil, begin: w.begin, uncertain: w.recordUncertain, find: w.findNetwork,
		call: func(ctx context.Context) (*metal.Network, error) {
			return w.opts.Metal.AllocateNetwork(ctx, metal.NetworkRequest{
				Project: w.project, Partition: w.spec.Partition, Name: w.ref.name,
				Description: "MetalStackCluster " + w.ref.namespace + "/" + w.ref.name,
				Labels:      w.identityLabels(w.id),
			})
		},
	})
	if err != nil {
		return err
	}
	w.opts.Observer.LearnNetwork(n)
	return w.recordNetwork(ctx, n.ID, false)
}

// recordNetwork also names the network in the spec: a `clusterctl move` carries
// that, and never the status.
func (w *clusterOperation) recordNetwork(ctx context.Context, id string, adopted bool) error {
	_, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.NetworkID != "" && a.NetworkID != id {
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.NetworkID, a.NetworkAdopted, a.UID = id, adopted, w.id.uid
		clearInFlight(&a.AllocationState)
		c.Spec.PrivateNetworkID = id
		return nil
	})
	w.crashPoint("network/recorded")
	return err
}

// findNetwork looks for the network that carries our identity, and that no other
// record names, whoever wrote the identity there.
func (w *clusterOperation) findNetwork(ctx context.Context) (*metal.Network, bool, error) {
	found, err := w.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{
		Project: w.project, Labels: map[string]string{metal.TagUID: LabelValue(string(w.id.uid))},
	})
	if err != nil {
		return nil, false, err
	}
	for _, n := range found {
		if n.Project != w.project || n.UID() != LabelValue(string(w.id.uid)) {
			continue
		}
		if held, err := w.anyOtherCluster(ctx, holdsNetwork(n.ID)); err != nil || !held {
			return n, err == nil, err
		}
	}
	return nil, false, nil
}

// adoptNetwork takes the network that the spec names. One that this very
// cluster allocated, here or where it was moved from, is its own again, with
// the identity that it had then; any other is not freed on release.
func (w *clusterOperation) adoptNetwork(ctx context.Context, id string) error {
	n, err := w.findProjectNetwork(ctx, id)
	if err != nil {
		return err
	}
	uid := w.id.uid
	own := n.UID() != "" && w.isOwnName(n.Labels[metal.TagNamespace], n.Labels[metal.TagName])
	if own {
		uid = types.UID(n.UID())
	}
	if err := w.adopt(ctx, "network", uid, func(ctx context.Context) error {
		if err := w.checkNetworkUnclaimed(ctx, n); err != nil {
			return err
		}
		_, err := w.findProjectNetwork(ctx, id)
		return err
	}); err != nil {
		return err
	}
	w.opts.Observer.LearnNetwork(n)
	return w.recordNetwork(ctx, id, !own)
}

// findProjectNetwork is a private network of the project.
func (w *clusterOperation) findProjectNetwork(ctx context.Context, id string) (*metal.Network, error) {
	n, err := w.findUsableNetwork(ctx, id, w.project)
	if err != nil {
		return nil, err
	}
	if n.Project != w.project {
		return nil, refuseSpec("spec.privateNetworkID: the network %q is not a private network of project %s", id, w.project)
	}
	return n, nil
}

// checkNetworkUnclaimed refuses a network that is another cluster's.
func (w *clusterOperation) checkNetworkUnclaimed(ctx context.Context, n *metal.Network) error {
	if n.Shared {
		return nil
	}
	wants := func(c *infrastructure.MetalStackCluster) bool { return c.Spec.PrivateNetworkID == n.ID }
	switch found, err := w.anyOtherCluster(ctx, claims(n.UID(), holdsNetwork(n.ID), wants)); {
	case err != nil:
		return refusalOf(err)
	case found:
		return refuseSpec("spec.privateNetworkID: the network %q belongs to another cluster", n.ID)
	}
	return nil
}

// isOwnName tells whether an identity is that of an object of our name.
func (w *clusterOperation) isOwnName(namespace, name string) bool {
	return namespace == LabelValue(w.ref.namespace) && name == LabelValue(w.ref.name)
}
