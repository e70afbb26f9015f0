package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// prepareCluster: a cluster's network and address are due at once.
func (r *reconciler) prepareCluster(context.Context, client.Object) (*v1alpha4.Allocation, wait, error) {
	return &v1alpha4.Allocation{}, wait{}, nil
}

// clusterMayGo waits for the machines and firewalls of a cluster, which live
// in its network. It asks the server, not the cache: what it does not see here
// loses its network.
func (r *reconciler) clusterMayGo(ctx context.Context, cluster client.Object) (wait, error) {
	for _, k := range []kind{machines, firewalls} {
		list := k.list()
		err := r.live.List(ctx, list, client.InNamespace(cluster.GetNamespace()),
			client.MatchingLabels{v1alpha4.ClusterNameLabel: cluster.GetName()})
		if err != nil {
			return wait{}, err
		}
		if n := meta.LenList(list); n > 0 {
			// Their end is an event that wakes us; the time is for a lost one.
			return waitFor(30*time.Second, "%d %ss of the cluster are still there", n, k.name), nil
		}
	}
	return wait{}, nil
}
