// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ipRecord is a MetalStackIP.
type ipRecord struct {
	*infrastructure.MetalStackIP
}

var _ record = &ipRecord{}

// allocation is never nil.
func (i *ipRecord) allocation() *infrastructure.IPAllocation {
	if i.Status.Allocation == nil {
		return &infrastructure.IPAllocation{}
	}
	return i.Status.Allocation
}

// identityUID is the uid that its metal carries.
func (i *ipRecord) identityUID() types.UID {
	if uid := i.allocation().UID; uid != "" {
		return uid
	}
	return i.UID
}

func (i *ipRecord) objectMeta() *metav1.ObjectMeta         { return &i.ObjectMeta }
func (i *ipRecord) conditions() *[]metav1.Condition        { return &i.Status.Conditions }
func (i *ipRecord) state() *infrastructure.AllocationState { return &i.allocation().AllocationState }

func (i *ipRecord) initAllocation() {
	if i.Status.Allocation == nil {
		i.Status.Allocation = &infrastructure.IPAllocation{}
	}
}

// refersTo reports whether the record stands for an address: it has it, or has an attempt to
// get what it names; or has the identity that it carries.
func (i *ipRecord) refersTo(address, uid string) bool {
	a := i.allocation()
	return a.Phase != infrastructure.AllocationReleased && (a.Address == address ||
		a.Phase == infrastructure.AllocationAllocating && isAddress(i.Spec.Address, address) || uid != "" && uid == LabelValue(string(i.identityUID())))
}

func (p *Protocol) newIPClaims(r Records[*infrastructure.MetalStackIP]) *claimKind[*ipRecord] {
	if r == nil {
		r = noRecords[*infrastructure.MetalStackIP]{ipResource}
	}
	wrap := func(i *infrastructure.MetalStackIP) *ipRecord { return &ipRecord{i} }
	return &claimKind[*ipRecord]{recordAdapter[*infrastructure.MetalStackIP, *ipRecord]{r, wrap}, ipResource, p.newIPOperation}
}

var ipClaimOperations = &operationTraits{
	step:                 "ip-claim",
	allocating:           "Allocating the address from the metal-api.",
	releasing:            "Releasing the address to the metal-api.",
	recordsEarlyRefusals: true,
}

// ipOperation is one operation on a MetalStackIP.
type ipOperation struct {
	operation[*ipRecord]
	project    string
	spec       infrastructure.MetalStackIPSpec
	allocation infrastructure.IPAllocation
}

var _ claimOperation[*ipRecord] = &ipOperation{}

func (p *Protocol) newIPOperation(ref objectRef, i *ipRecord) (claimOperation[*ipRecord], error) {
	project, err := p.projectOf(ref.namespace)
	if err != nil {
		return nil, err
	}
	o := &ipOperation{project: project, operation: operation[*ipRecord]{
		p: p, records: p.ips, ref: ref, uid: i.UID, attempt: i.allocation().Attempt, traits: ipClaimOperations,
		inFlightUntil: p.inFlightUntil(&i.allocation().AllocationState),
		identity:      identity{uid: i.identityUID(), namespace: ref.namespace, name: ref.name, kind: ipKind},
	}}
	i.Spec.DeepCopyInto(&o.spec)
	o.sameSpec = func(r *ipRecord) bool { return apiequality.Semantic.DeepEqual(r.Spec, o.spec) }
	i.allocation().DeepCopyInto(&o.allocation)
	return o, nil
}

func (o *ipOperation) common() *operation[*ipRecord] { return &o.operation }

// ipClaimAllocator allocates the address of a claim.
type ipClaimAllocator struct {
	*ipOperation
	immediate
}

var _ allocator[*metal.IP] = ipClaimAllocator{}

func (a ipClaimAllocator) what() string { return "address" }

// find finds no other address than the one that the spec names.
func (a ipClaimAllocator) find(ctx context.Context) (*metal.IP, bool, error) {
	return a.findIdentified(ctx, func(ip *metal.IP) bool { return a.spec.Address == "" || isAddress(a.spec.Address, ip.Address) })
}

// findIdentified looks for an address that carries the claim's identity, that no other record
// names, and that matches.
func (o *ipOperation) findIdentified(ctx context.Context, matches func(*metal.IP) bool) (*metal.IP, bool, error) {
	found, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{
		Project: o.project, Tags: []string{metal.Tag(metal.TagUID, LabelValue(string(o.identity.uid)))},
	})
	if err != nil {
		return nil, false, err
	}
	for _, ip := range found {
		if ip.Project != o.project || ip.UID() != LabelValue(string(o.identity.uid)) || kindOfIP(ip) != ipKind || !matches(ip) {
			continue
		}
		other, err := o.otherClaim(ctx, func(r *ipRecord) bool { return r.allocation().Address == ip.Address })
		if err != nil || other == nil {
			return ip, err == nil, err
		}
	}
	return nil, false, nil
}

// kindOfIP is the kind of the object that claims the address, or "".
func kindOfIP(ip *metal.IP) string { kind, _ := metal.TagValue(ip.Tags, metal.TagKind); return kind }

// checkOrAdopt refuses a network that is being released.
func (a ipClaimAllocator) checkOrAdopt(ctx context.Context) (none *metal.IP, ok bool, err error) {
	return nil, false, a.p.checkNetworksNotReleasing(ctx, a.spec.NetworkID)
}

func (a ipClaimAllocator) allocate(ctx context.Context) (*metal.IP, error) {
	r := metal.IPRequest{
		Address: a.spec.Address, Project: a.project, Network: a.spec.NetworkID, Type: metal.TypeStatic, Name: a.ref.name,
		Description: ipKind + " " + a.ref.namespace + "/" + a.ref.name,
		Tags:        a.p.identityTags(a.identity),
	}
	if r.Address == "" {
		r.AddressFamily = a.spec.AddressFamily
	}
	ip, err := a.p.opts.Metal.AllocateIP(ctx, r)
	var e *metal.Error
	if r.Address == "" || metal.KindOf(err) != metal.Conflict || !errors.As(err, &e) {
		return ip, err
	}
	// The address is taken, and this call did nothing. If it is ours, an earlier call
	// allocated it.
	switch ours, ok, findErr := a.find(ctx); {
	case findErr != nil:
		return nil, err
	case ok:
		return ours, nil
	}
	return nil, &metal.Error{Kind: metal.Refused, Op: e.Op, Status: e.Status, Message: e.Message, Field: metal.FieldAddress}
}

func (a ipClaimAllocator) specField(f metal.RequestField) (*field.Path, any) {
	switch f {
	case metal.FieldProject:
		return namespacePath, a.ref.namespace
	case metal.FieldNetworks:
		return networkIDPath, a.spec.NetworkID
	case metal.FieldAddress:
		return addressPath, a.spec.Address
	case metal.FieldAddressFamily:
		return addressFamilyPath, a.spec.AddressFamily
	}
	return nil, nil
}

// otherClaim returns another claim of an address of the project that matches.
func (o *ipOperation) otherClaim(ctx context.Context, matches func(*ipRecord) bool) (*ipRecord, error) {
	return o.p.ipClaim(ctx, o.project, func(r *ipRecord) bool {
		return (r.Namespace != o.ref.namespace || r.Name != o.ref.name) && matches(r)
	})
}

// ipClaim returns a claim of a project that is not released, and that matches; nil if there is
// none.
func (p *Protocol) ipClaim(ctx context.Context, project string, matches func(*ipRecord) bool) (*ipRecord, error) {
	inProject := p.inProject(project)
	all, err := p.ips.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.allocation().Phase != infrastructure.AllocationReleased && inProject(r.Namespace) && matches(r) {
			return r, nil
		}
	}
	return nil, nil
}

func (o *ipOperation) ensure(ctx context.Context) (*ipRecord, error) {
	ip, err := o.findNamed(ctx)
	switch {
	case err != nil && !o.inFlightUntil.IsZero():
		return nil, &notBegun{err}
	case err != nil:
		return nil, err
	// An attempt of this claim may have allocated what it names.
	case ip != nil && ip.UID() != LabelValue(string(o.identity.uid)):
		return o.adopt(ctx, ip)
	}
	if !o.inFlightUntil.IsZero() {
		// The checks below say nothing of an attempt whose outcome is not known.
		found, ok, err := awaitOutcome[*metal.IP](ctx, o.p, ipClaimAllocator{ipOperation: o}, o.inFlightUntil, o.recordUncertain)
		switch {
		case err != nil:
			return nil, err
		case ok:
			return o.recordIP(ctx, found, false)
		}
		o.inFlightUntil = time.Time{}
	}
	if err := o.checkNetwork(ctx); err != nil {
		return nil, err
	}
	ip, err = ensureAllocated(ctx, &o.operation, ipClaimAllocator{ipOperation: o})
	if err != nil {
		return nil, err
	}
	return o.recordIP(ctx, ip, false)
}

// findNamed returns the address that the spec names, nil if it names none, or none that the
// project has.
func (o *ipOperation) findNamed(ctx context.Context) (*metal.IP, error) {
	if o.spec.Address == "" {
		return nil, nil
	}
	address, err := netip.ParseAddr(o.spec.Address)
	if err != nil {
		return nil, refuseField(field.Invalid(addressPath, o.spec.Address, "must be an IP address"))
	}
	return o.p.findProjectAddress(ctx, o.project, address)
}

// checkNetwork refuses a network that the project cannot use, or that does not contain the
// address.
func (o *ipOperation) checkNetwork(ctx context.Context) error {
	id := o.spec.NetworkID
	n, err := o.p.findUsableNetwork(ctx, namedNetwork{networkIDPath, id, id}, o.project)
	if err != nil {
		return err
	}
	if address, err := netip.ParseAddr(o.spec.Address); err == nil && !n.Contains(address) {
		return refuseField(field.Invalid(addressPath, o.spec.Address, fmt.Sprintf("must be in network %q: %s", id, strings.Join(n.Prefixes, ", "))))
	}
	return nil
}

// adopt takes the address that the spec names. One that this very claim allocated in this
// management cluster is its own again; any other is not freed on release. An address of another
// management cluster is not even if the claim was moved from there: a claim that was copied looks
// like one that was moved, and the metal-api would free an address that is in use there.
func (o *ipOperation) adopt(ctx context.Context, ip *metal.IP) (*ipRecord, error) {
	if err := o.checkAdoptable(ip); err != nil {
		return nil, err
	}
	own := o.isOwnHere(func(key string) string { value, _ := metal.TagValue(ip.Tags, key); return value })
	uid := o.identity.uid
	if own {
		uid = types.UID(ip.UID())
	}
	if err := o.beginAdoption(ctx, "address", uid, func(ctx context.Context) error {
		if err := o.checkUnreferenced(ctx, ip); err != nil {
			return err
		}
		again, err := o.findNamed(ctx)
		if err == nil && (again == nil || again.AllocationUUID != ip.AllocationUUID) {
			err = refuse(http.StatusConflict, "spec.address: address %s was released meanwhile: retry", ip.Address)
		}
		return err
	}); err != nil {
		return nil, err
	}
	return o.recordIP(ctx, ip, !own)
}

// checkAdoptable refuses an address that goes with what uses it, or is of another network.
func (o *ipOperation) checkAdoptable(ip *metal.IP) error {
	switch {
	case ip.NetworkID != o.spec.NetworkID:
		return refuseField(field.Invalid(networkIDPath, o.spec.NetworkID, fmt.Sprintf("must be the network of address %s, %q", ip.Address, ip.NetworkID)))
	case ip.Type != metal.TypeStatic:
		return refuseField(field.Invalid(addressPath, o.spec.Address, "is an ephemeral address of the project, which is freed together with what uses it: must be a static or a free one, or omitted to have one allocated"))
	}
	return nil
}

// checkUnreferenced refuses an address that another claim has, or that a cluster allocated.
// One that clusters adopted is kept by all of them.
func (o *ipOperation) checkUnreferenced(ctx context.Context, ip *metal.IP) error {
	other, err := o.otherClaim(ctx, func(r *ipRecord) bool { return r.refersTo(ip.Address, ip.UID()) })
	if err != nil {
		return refusalOf(err)
	}
	if other != nil {
		return refuseField(field.Invalid(addressPath, o.spec.Address, "belongs to another MetalStackIP: must be an address that no other one has, or omitted to have one allocated"))
	}
	cluster, err := o.p.clusterThat(ctx, func(c *clusterRecord) bool {
		return hasAddress(ip.Address)(c) && !c.allocation().IPAdopted || ip.UID() != "" && ip.UID() == LabelValue(string(c.identityUID()))
	})
	if err != nil {
		return refusalOf(err)
	}
	if cluster != nil {
		return refuseField(field.Invalid(addressPath, o.spec.Address, "was allocated for a MetalStackCluster, and is released with it: must be another address, or omitted to have one allocated"))
	}
	return nil
}

// recordIP records the address, and names it in the spec: a `clusterctl move` carries that,
// and never the status.
func (o *ipOperation) recordIP(ctx context.Context, ip *metal.IP, adopted bool) (*ipRecord, error) {
	o.p.opts.Observer.LearnIP(ip)
	r, err := o.update(ctx, func(r *ipRecord) error {
		a := r.allocation()
		if same, err := o.checkRecordable(&a.AllocationState, a.Address == ip.Address && a.AllocationUUID == ip.AllocationUUID); err != nil || same {
			return err
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, o.p.recordTime(), nil
		a.Address, a.AllocationUUID, a.Adopted, a.UID = ip.Address, ip.AllocationUUID, adopted, o.identity.uid
		r.Spec.Address = ip.Address
		return nil
	})
	o.p.crashPoint(o.traits.step + "/allocated")
	return r, err
}

func (o *ipOperation) check(ctx context.Context) error {
	ip, err := o.findNamed(ctx)
	switch {
	case err != nil:
		return err
	case ip == nil:
		if err := o.checkNetwork(ctx); err != nil {
			return err
		}
		return o.checkFree(ctx)
	case ip.UID() == LabelValue(string(o.identity.uid)):
		return o.checkNetwork(ctx)
	}
	if err := o.checkAdoptable(ip); err != nil {
		return err
	}
	return o.checkUnreferenced(ctx, ip)
}
