package allocation

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func noPartition() error { return unusable("spec.partition is empty") }

// network allocates the private network, or adopts the one that is named.
func (w *clusterWork) network(ctx context.Context, openUntil time.Time) error {
	if id := w.spec.PrivateNetworkID; id != "" {
		return w.adoptNetwork(ctx, id)
	}
	if w.spec.Partition == "" {
		return noPartition()
	}
	n, err := obtain(ctx, w.Protocol, allocating[*metal.Network]{
		what: "network", openUntil: openUntil, begin: w.begin, uncertain: w.uncertain, find: w.findNetwork,
		call: func(ctx context.Context) (*metal.Network, error) {
			return w.opts.Metal.AllocateNetwork(ctx, metal.NetworkRequest{
				Project: w.project, Partition: w.spec.Partition, Name: w.subject.name,
				Description: "MetalStackCluster " + w.subject.namespace + "/" + w.subject.name,
				Labels:      w.labels(w.id),
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
func (w *clusterWork) recordNetwork(ctx context.Context, id string, adopted bool) error {
	_, err := w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.NetworkID != "" && a.NetworkID != id {
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.NetworkID, a.NetworkAdopted, a.UID = id, adopted, w.id.uid
		noneOpen(&a.AllocationState)
		c.Spec.PrivateNetworkID = id
		return nil
	})
	w.at("network/recorded")
	return err
}

// findNetwork looks for the network that carries our identity, and that no other
// record names, whoever wrote the identity there.
func (w *clusterWork) findNetwork(ctx context.Context) (*metal.Network, bool, error) {
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
		if held, err := w.another(ctx, holdsNetwork(n.ID)); err != nil || !held {
			return n, err == nil, err
		}
	}
	return nil, false, nil
}

// adoptNetwork takes the network that the spec names. One that this very
// cluster allocated, here or where it was moved from, is its own again, with
// the identity that it had then; any other is not freed on release.
func (w *clusterWork) adoptNetwork(ctx context.Context, id string) error {
	n, err := w.projectNetwork(ctx, id)
	if err != nil {
		return err
	}
	uid := w.id.uid
	own := n.UID() != "" && w.isOurs(n.Labels[metal.TagNamespace], n.Labels[metal.TagName])
	if own {
		uid = types.UID(n.UID())
	}
	if err := w.adopt(ctx, "network", uid, func(ctx context.Context) error {
		if err := w.networkUnclaimed(ctx, n); err != nil {
			return err
		}
		_, err := w.projectNetwork(ctx, id)
		return err
	}); err != nil {
		return err
	}
	w.opts.Observer.LearnNetwork(n)
	return w.recordNetwork(ctx, id, !own)
}

// projectNetwork is a private network of the project.
func (w *clusterWork) projectNetwork(ctx context.Context, id string) (*metal.Network, error) {
	n, err := w.usableNetwork(ctx, id, w.project)
	if err != nil {
		return nil, err
	}
	if n.Project != w.project {
		return nil, unusable("spec.privateNetworkID: the network %q is not a private network of project %s", id, w.project)
	}
	return n, nil
}

// networkUnclaimed refuses a network that is another cluster's.
func (w *clusterWork) networkUnclaimed(ctx context.Context, n *metal.Network) error {
	if n.Shared {
		return nil
	}
	wants := func(c *infrastructure.MetalStackCluster) bool { return c.Spec.PrivateNetworkID == n.ID }
	switch found, err := w.another(ctx, claimed(n.UID(), holdsNetwork(n.ID), wants)); {
	case err != nil:
		return refusalOf(err)
	case found:
		return unusable("spec.privateNetworkID: the network %q belongs to another cluster", n.ID)
	}
	return nil
}

// isOurs tells whether an identity is that of an object of our name.
func (w *clusterWork) isOurs(namespace, name string) bool {
	return namespace == LabelValue(w.subject.namespace) && name == LabelValue(w.subject.name)
}
