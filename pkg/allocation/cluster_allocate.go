// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// allocateCluster takes a cluster from a claim to a network and an address,
// one after the other; each is recorded before the next.
func (p *Protocol) allocateCluster(ctx context.Context, ref objectRef, uid types.UID) (*clusterRecord, error) {
	c, err := p.clusters.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return nil, err
	}
	a := c.allocation()
	if err := checkUID(&c.ObjectMeta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationAllocated {
		return c, nil
	}
	if err := checkAllocatable(&c.ObjectMeta, a.Phase); err != nil {
		return nil, err
	}
	if err := p.checkBackoff(c); err != nil {
		return nil, err
	}
	o, err := p.newClusterOperation(ref, c)
	if err != nil {
		return nil, err
	}
	o.dryRun = IsDryRun(ctx)
	if id := o.spec.ProjectID; id != "" && id != o.project {
		err := refuseField(field.Invalid(projectIDPath, id, fmt.Sprintf("must be project %q, which namespace %q is bound to, or omitted", o.project, ref.namespace)))
		return nil, o.recordRefusal(ctx, err)
	}
	if o.spec.ClusterID != "" && a.NetworkID == "" {
		if err := o.checkClusterIDUnique(ctx); err != nil {
			return nil, o.recordRefusal(ctx, err)
		}
	}
	if o.dryRun {
		return c, o.dryRunAllocate(ctx, a)
	}
	if a.NetworkID == "" {
		if err := o.ensureNetwork(ctx); err != nil {
			return nil, o.recordRefusal(ctx, err)
		}
		// An attempt that was in flight was that of the network.
		o.inFlightUntil = time.Time{}
	}
	if a.IPAddress == "" {
		if err := o.ensureAddress(ctx); err != nil {
			return nil, o.recordRefusal(ctx, err)
		}
	}
	return o.recordAllocated(ctx)
}

// recordAllocated records that the cluster has all that it needs.
func (o *clusterOperation) recordAllocated(ctx context.Context) (*clusterRecord, error) {
	c, err := o.update(ctx, func(c *clusterRecord) error {
		a := c.allocation()
		switch a.Phase {
		case infrastructure.AllocationAllocated:
			return nil
		case infrastructure.AllocationReleasing, infrastructure.AllocationReleased:
			return refuse(http.StatusConflict, "the record was changed by another operation: retry")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, o.p.recordTime(), nil
		return nil
	})
	o.p.crashPoint("cluster/allocated")
	return c, err
}

// beginAdoption is that of an operation; the identity may be the cluster id, too.
func (o *clusterOperation) beginAdoption(ctx context.Context, what string, uid types.UID, check func(ctx context.Context) error) error {
	before := o.identity.uid
	o.setIdentity(uid)
	err := o.operation.beginAdoption(ctx, what, uid, check)
	if err != nil {
		o.setIdentity(before)
	}
	return err
}
