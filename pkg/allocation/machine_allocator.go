// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// machineAllocator allocates the metal of a machine or firewall.
type machineAllocator struct {
	*machineOperation
	// claim is the object as it was read first.
	claim    *machineLike
	plan     *plan
	userData []byte
	// freeSlot frees the slot in the partition, if there is one.
	freeSlot func()
	// adopted: what was found had been allocated before.
	adopted bool
	// unrecorded: there is no such object, and what it names is looked up in the catalogue.
	unrecorded bool
}

var _ allocator[*metal.Machine] = &machineAllocator{}

// acquire takes a slot in the partition.
func (a *machineAllocator) acquire(ctx context.Context) (err error) {
	a.releaseSlot()
	a.freeSlot, err = a.p.limiter.acquire(ctx, a.plan.partition, a.plan.machineID != "")
	return err
}

func (a *machineAllocator) releaseSlot() {
	if a.freeSlot != nil {
		a.freeSlot()
		a.freeSlot = nil
	}
}

// checkOrAdopt is called after the attempt was recorded, so that of two objects that
// name one machine, or of a machine and a cluster that is being released, at least one
// sees the other.
func (a *machineAllocator) checkOrAdopt(ctx context.Context) (*metal.Machine, bool, error) {
	if a.plan.clusterName != "" {
		if _, err := a.p.joinableCluster(ctx, a.ref.namespace, a.plan.clusterName); err != nil {
			return nil, false, err
		}
	}
	if err := a.p.checkNetworksNotReleasing(ctx, a.plan.networks...); err != nil {
		return nil, false, err
	}
	if a.plan.machineID == "" {
		return nil, false, nil
	}
	return a.checkNamedMachine(ctx)
}

// checkNamedMachine checks the machine that the spec names, or adopts it.
func (a *machineAllocator) checkNamedMachine(ctx context.Context) (*metal.Machine, bool, error) {
	id := a.plan.machineID
	m, err := a.readMachine(ctx, id)
	if err != nil {
		return nil, false, err
	}
	// One answer for what is not there and what is another project's.
	notFound := a.refuseMachine("machine %s not found in project %q, and not available to it: must be idle, or allocated in the project", id, a.plan.project)
	if m == nil || (m.Allocation != nil && m.Project() != a.plan.project) {
		return nil, false, notFound
	}
	referrer, phase, err := a.findReferrer(ctx, m, refersToMachine)
	switch {
	case err != nil:
		return nil, false, err
	case referrer == nil:
	case referrer.namespace != a.ref.namespace:
		return nil, false, notFound
	case phase == infrastructure.AllocationAllocated:
		return nil, false, a.refuseMachine("machine %s belongs to %s: must belong to no other object", id, referrer)
	default:
		// That may come to nothing, or end, soon.
		return nil, false, refuse(http.StatusConflict, "spec.providerID: machine %s is in use by %s: retry", id, referrer)
	}
	if m.Allocation != nil {
		return a.checkAdoption(ctx, m)
	}
	current := a.claim
	if !a.unrecorded {
		if current, err = a.records.get(ctx, a.ref.namespace, a.ref.name); err != nil {
			return nil, false, err
		}
	}
	switch {
	case !m.Allocatable():
		// The metal-api itself would allocate it.
		return nil, false, a.refuseMachine("machine %s is not available: last event %q (must be %q), liveliness %q (must be %q), state %q (must be empty)",
			id, lastEvent(m), metal.EventWaiting, m.Liveliness, metal.LivelinessAlive, m.State)
	case m.Size != current.machineType:
		return nil, false, a.refuseMachine("machine %s has size %q: must have the size of spec.machineType, %q", id, m.Size, current.machineType)
	case m.Partition != a.plan.partition:
		return nil, false, a.refuseMachine("machine %s is in partition %q: must be in the partition of the spec or the cluster, %q", id, m.Partition, a.plan.partition)
	case a.unrecorded:
		return nil, false, nil
	}
	return nil, false, a.checkComplete()
}

// readMachine returns a machine, nil if there is none.
func (a *machineAllocator) readMachine(ctx context.Context, id string) (*metal.Machine, error) {
	if a.unrecorded {
		return a.p.opts.Offers.Catalogue.LookupMachine(ctx, id, a.plan.project)
	}
	return a.p.findMachine(ctx, id)
}

// checkComplete refuses what lacks something that an allocation needs, and an adoption
// does not.
func (a *machineAllocator) checkComplete() error {
	if err := a.plan.checkComplete(); err != nil {
		return err
	}
	switch secret := a.claim.userData; {
	case len(a.userData) > 0:
	case secret != nil:
		return refuseField(field.Required(userDataPath, fmt.Sprintf("must be the data of Secret %q, which spec.userData names", secret.Name)))
	case a.claim.controller != nil && !a.p.opts.Standalone:
		return refuseField(field.Required(userDataPath, "must hold a kubeconfig for the firewall-controller, since spec.controller is set: the controller manager adds it"))
	}
	return nil
}

// checkAdoption checks a machine of the project that is allocated, and that no
// other record refers to.
func (a *machineAllocator) checkAdoption(ctx context.Context, m *metal.Machine) (*metal.Machine, bool, error) {
	if m.Allocation.Role != a.machineKind.role {
		return nil, false, a.refuseMachine("machine %s is allocated with role %q: must have role %q", m.ID, m.Allocation.Role, a.machineKind.role)
	}
	// Another object may have released it after it was read, and before the other
	// records were.
	again, err := a.readMachine(ctx, m.ID)
	if err != nil {
		return nil, false, err
	}
	if again == nil || again.AllocationUUID() != m.AllocationUUID() {
		return nil, false, refuse(http.StatusConflict, "spec.providerID: machine %s was released meanwhile: retry", m.ID)
	}
	a.adopted = true
	return again, true, nil
}

// refuseMachine refuses the machine that the spec names.
func (a *machineAllocator) refuseMachine(format string, args ...any) *refusal {
	return refuseField(field.Invalid(providerIDPath, *a.claim.providerID, fmt.Sprintf(format, args...)))
}

func lastEvent(m *metal.Machine) string {
	if len(m.Events) == 0 {
		return ""
	}
	return m.Events[0].Event
}

// allocate makes the one call that allocates machines and firewalls.
func (a *machineAllocator) allocate(ctx context.Context) (*metal.Machine, error) {
	defer a.releaseSlot()
	request := a.p.machineRequest(a.claim, a.machineKind, a.plan, a.identity, a.userData)
	var m *metal.Machine
	var err error
	if a.machineKind.role == metal.RoleFirewall {
		m, err = a.p.opts.Metal.AllocateFirewall(ctx, metal.FirewallRequest{MachineRequest: request, Rules: firewallRules(a.claim.rules)})
	} else {
		m, err = a.p.opts.Metal.AllocateMachine(ctx, request)
	}
	switch {
	case err == nil && m.AllocationUUID() == "":
		err = &metal.Error{Kind: metal.Uncertain, Op: "machine allocate", Message: "the answer names no allocation"}
	case err == nil:
		a.p.limiter.recordSuccess(a.plan.partition)
	case failedAfterMachineChoice(err):
		a.p.limiter.recordFailure(a.plan.partition)
	}
	return m, err
}

// refusedBeforeMachineChoice are the refusals that come before a machine is
// chosen, or because there is none.
var refusedBeforeMachineChoice = regexp.MustCompile(`no machine available|quota|already allocated`)

// failedAfterMachineChoice reports whether a refusal came after the metal-api had
// chosen a machine, so that there is something for it to clean up.
func failedAfterMachineChoice(err error) bool {
	var e *metal.Error
	if !errors.As(err, &e) || (e.Kind != metal.Refused && e.Kind != metal.NotFound) {
		return false
	}
	// Unknown images, sizes and partitions are 400.
	return e.Status != http.StatusBadRequest && !refusedBeforeMachineChoice.MatchString(e.Message)
}
