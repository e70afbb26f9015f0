package controller

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// prepareMachine: a machine is due when the network of its cluster is there
// and its user data can be read.
func (r *reconciler) prepareMachine(ctx context.Context, obj client.Object) (*v1alpha4.Allocation, wait, error) {
	machine := obj.(*v1alpha4.MetalStackMachine)
	if !r.standalone {
		return nil, wait{why: "no Machine owns it yet, which will name its user data"}, nil
	}
	if machine.Spec.UserData != nil {
		return nil, wait{why: "spec.userData names a Secret, which this controller cannot read standalone"}, nil
	}
	return r.prepareServer(ctx, obj)
}

// prepareFirewall: a firewall is due when the network of its cluster is there.
func (r *reconciler) prepareFirewall(ctx context.Context, obj client.Object) (*v1alpha4.Allocation, wait, error) {
	return r.prepareServer(ctx, obj)
}

// prepareServer waits for the cluster that the object's label names, if any.
func (r *reconciler) prepareServer(ctx context.Context, obj client.Object) (*v1alpha4.Allocation, wait, error) {
	name := obj.GetLabels()[v1alpha4.ClusterNameLabel]
	if name == "" {
		return &v1alpha4.Allocation{}, wait{}, nil
	}

	cluster := &v1alpha4.MetalStackCluster{}
	err := r.cached.Get(ctx, types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}, cluster)
	switch {
	case apierrors.IsNotFound(err):
		// Its creation is an event that wakes us; the time is for a lost one.
		return nil, waitFor(time.Minute, "there is no MetalStackCluster %s", name), nil
	case err != nil:
		return nil, wait{}, err
	case cluster.DeletionTimestamp != nil:
		return nil, waitFor(time.Minute, "MetalStackCluster %s is being deleted", name), nil
	case allocationOf(cluster).Phase != v1alpha4.AllocationAllocated:
		return nil, waitFor(time.Minute, "MetalStackCluster %s has no network yet", name), nil
	}
	return &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: name}}, wait{}, nil
}

// serverMayGo: nothing depends on a single server.
func (r *reconciler) serverMayGo(context.Context, client.Object) (wait, error) {
	return wait{}, nil
}
