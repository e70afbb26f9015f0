// SPDX-License-Identifier: Apache-2.0

package references

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Validation is one validation. Each of its methods checks one field, and only if
// its value is a new one: what was accepted once, and may have gone out of the
// catalogue since, must not keep an object from being updated or released. Nor
// may it keep an object from being moved to this cluster, which is then warned
// of: what the object may not have, it is not given when it is allocated.
type Validation struct {
	ctx       context.Context
	validator *Validator
	namespace string
	project   string
	moved     bool
	stopped   bool
	errs      field.ErrorList
}

// Begin begins the validation of an object in a namespace, whose syntax is right.
// What it looks up counts against what the request and the namespace may.
func (v *Validator) Begin(ctx context.Context, namespace string) *Validation {
	project, _ := v.Projects.Project(namespace)
	ctx = v.Catalogue.WithAllowance(ctx, namespace)
	return &Validation{ctx: ctx, validator: v, namespace: namespace, project: project, moved: registry.IsMoved(ctx)}
}

// Errors returns what was found.
func (v *Validation) Errors() field.ErrorList { return v.errs }

// Project checks that value is the project that the namespace is bound to.
func (v *Validation) Project(path *field.Path, value, old string) {
	if value == "" || value == old || value == v.project {
		return
	}
	v.errs = append(v.errs, field.Invalid(path, value,
		fmt.Sprintf("namespace %q is bound to project %q: omit the field, or use a namespace that is bound to the other project", v.namespace, v.project)))
}

// Size checks that there is such a size.
func (v *Validation) Size(path *field.Path, value, old string) {
	if value == "" || value == old || v.done() {
		return
	}
	size, all, err := v.validator.Catalogue.LookupSize(v.ctx, value)
	v.report(path, value, size != nil, all, err)
}

// Image checks that there is such an image, and that it has the feature.
func (v *Validation) Image(path *field.Path, value, old, feature string) {
	if value == "" || value == old || v.done() {
		return
	}
	image, all, err := v.validator.Catalogue.LookupImage(v.ctx, value, feature)
	if err == nil && image == nil {
		if other, _, err := v.validator.Catalogue.LookupImage(v.ctx, value, ""); err == nil && other != nil {
			invalid := unsupported(path, value, all)
			invalid.Detail = fmt.Sprintf("image does not support the feature %q; %s", feature, invalid.Detail)
			v.reject(invalid)
			return
		}
	}
	if err == nil && image != nil {
		v.warnOfExpiry(path, value, image)
	}
	v.report(path, value, image != nil, all, err)
}

// expiryNotice is how long before an image expires there are warnings.
const expiryNotice = 30 * 24 * time.Hour

// warnOfExpiry warns of an image that has expired, or will soon: the metal-api installs it
// without a warning. value is its id, or an alias that stands for it now.
func (v *Validation) warnOfExpiry(path *field.Path, value string, image *metal.Image) {
	left := image.Expires.Sub(v.validator.now())
	if image.Expires.IsZero() || left > expiryNotice {
		return
	}
	name, day := strconv.Quote(value), image.Expires.UTC().Format(time.DateOnly)
	if value != image.ID {
		name += ", which is " + image.ID + " now,"
	}
	if left <= 0 {
		warning.Add(v.ctx, "%s: image %s expired on %s: it is installed all the same, but metal-stack does not support it any more; see 'kubectl get metalstackimages'", path, name, day)
		return
	}
	warning.Add(v.ctx, "%s: image %s expires on %s: metal-stack does not support it after that; see 'kubectl get metalstackimages'", path, name, day)
}

// Partition checks that there is such a partition.
func (v *Validation) Partition(path *field.Path, value, old string) {
	if value == "" || value == old || v.done() {
		return
	}
	partition, all, err := v.validator.Catalogue.LookupPartition(v.ctx, value)
	v.report(path, value, partition != nil, all, err)
}

// Network checks that the project may use the network. It answers the same
// about a network that does not exist and about one of another project.
func (v *Validation) Network(path *field.Path, value, old string) {
	if value == "" || value == old || v.done() {
		return
	}
	network, all, err := v.validator.Catalogue.LookupNetwork(v.ctx, value, v.project)
	v.report(path, value, v.mayUse(network), all, err)
}

// Networks checks a list of networks.
func (v *Validation) Networks(path *field.Path, values, old []string) {
	known := sets.New(old...)
	for i, value := range values {
		if !known.Has(value) {
			v.Network(path.Index(i), value, "")
		}
	}
}

// FirewallController checks the networks and addresses of a firewall-controller's
// configuration; addresses of what brings no metal along as if it was not moved.
func (v *Validation) FirewallController(path *field.Path, controller, old *infrastructure.FirewallController, bringsMetal bool) {
	if controller == nil {
		return
	}
	old = cmp.Or(old, &infrastructure.FirewallController{})
	known := sets.New[string]()
	for _, limit := range old.RateLimits {
		known.Insert(limit.NetworkID)
	}
	v.egressIPs(path.Child("egressIPs"), controller.EgressIPs, old.EgressIPs, v.moved && bringsMetal)
	for i, limit := range controller.RateLimits {
		if !known.Has(limit.NetworkID) {
			v.Network(path.Child("rateLimits").Index(i).Child("networkID"), limit.NetworkID, "")
		}
	}
}

// egressIPs checks that the project has allocated the addresses, in the networks that they
// are listed of. It answers the same about an address that is free, about another project's
// and about one outside of metal-stack. A project that has an address in a network may use
// the network. They are not checked again when metal is allocated, so those that cannot be
// checked now are refused, unless the object is moved.
func (v *Validation) egressIPs(path *field.Path, networks, old []infrastructure.FirewallEgressIPs, moved bool) {
	type source struct{ network, address string }
	known := sets.New[source]()
	for _, network := range old {
		for _, ip := range network.IPs {
			known.Insert(source{network.NetworkID, ip})
		}
	}
	defer func(before bool) { v.moved = before }(v.moved)
	v.moved = moved
	for i, network := range networks {
		for j, value := range network.IPs {
			address, err := netip.ParseAddr(value)
			if err != nil || known.Has(source{network.NetworkID, value}) || v.done() {
				continue
			}
			path := path.Index(i).Child("ips").Index(j)
			ip, _, err := v.validator.Catalogue.LookupAddress(v.ctx, address, v.project)
			releasing := false
			if err == nil && ip != nil {
				releasing, err = v.validator.isReleasing(v.ctx, v.project, ip.Address)
			}
			switch {
			case err != nil && moved:
				v.warn(path, value, err)
			case err != nil:
				v.refuseUnchecked(path, value, err)
			case ip == nil:
				v.reject(field.Invalid(path, value, fmt.Sprintf(
					"is not allocated to project %q: set an address that the project has allocated in network %q: see 'kubectl get metalstackips'", v.project, network.NetworkID)))
			case releasing:
				v.reject(field.Invalid(path, value, "is an address whose MetalStackIP is being deleted: set an address of one that is not"))
			case ip.NetworkID != network.NetworkID:
				v.reject(field.Invalid(path, value, fmt.Sprintf("is in network %q: list it with that networkID", ip.NetworkID)))
			}
		}
	}
}

// PrivateNetwork checks that the network is one of the project's own.
func (v *Validation) PrivateNetwork(path *field.Path, value, old string) {
	if value == "" || value == old || v.done() {
		return
	}
	network, all, err := v.validator.Catalogue.LookupNetwork(v.ctx, value, v.project)
	if err == nil && v.mayUse(network) && network.Project != v.project {
		v.reject(field.Invalid(path, value,
			fmt.Sprintf("must be a private network of project %q: omit the field to have one allocated", v.project)))
		return
	}
	v.report(path, value, v.mayUse(network), all, err)
}

// PrivateNetworkSpec checks that a private network can be allocated in the partition.
func (v *Validation) PrivateNetworkSpec(path *field.Path, network, old *infrastructure.PrivateNetwork, partition, oldPartition string) {
	same := partition == oldPartition && apiequality.Semantic.DeepEqual(network, old)
	if network == nil || partition == "" || same || v.done() {
		return
	}
	super, err := v.validator.Catalogue.LookupSuperNetwork(v.ctx, partition)
	switch {
	case err != nil:
		warning.Add(v.ctx, "%s: not validated: %v", path, err)
	case super != nil:
		for _, err := range validation.ValidatePrivateNetworkIn(network, super.Prefixes, super.ChildPrefixLengths, path) {
			v.reject(err)
		}
	}
}

// mayUse is false for no network.
func (v *Validation) mayUse(n *metal.Network) bool { return n != nil && n.UsableBy(v.project) }

// Host checks that an address in a range of metal-stack is one that the project
// has allocated. It answers the same about one that is free and about another
// project's. An address in no range of metal-stack, and a name, is an endpoint
// that is managed elsewhere.
func (v *Validation) Host(path *field.Path, value, old string) {
	address, err := netip.ParseAddr(value)
	if value == old || err != nil || v.done() {
		return
	}
	_, network, err := v.validator.Catalogue.LookupAddress(v.ctx, address, v.project)
	switch {
	case err != nil:
		v.warn(path, value, err)
	case network != nil && !v.mayUse(network):
		v.reject(field.Invalid(path, value, fmt.Sprintf(
			"is in a metal-stack network and not allocated to project %q: omit the field to have one allocated, or set an address that the project has allocated, an address outside of metal-stack, or a DNS name",
			v.project)))
	case network != nil:
		v.reject(field.Invalid(path, value, fmt.Sprintf(
			"is in network %q and not allocated to project %q: omit the field to have one allocated, or create a MetalStackIP with networkID %q and address %q first",
			network.ID, v.project, network.ID, address)))
	}
}

// ProviderID checks that the machine is one that the project can have, and that
// no other object of the namespace has. It answers the same about a machine that
// does not exist and about one of another project. Syntax is not checked here.
func (v *Validation) ProviderID(path *field.Path, value, old string, asking Referrer) {
	id, err := providerid.Parse(value)
	if value == "" || value == old || err != nil || v.done() {
		return
	}
	machine, err := v.validator.Catalogue.LookupMachine(v.ctx, id.MachineID, v.project)
	switch {
	case err != nil:
		v.warn(path, value, err)
	case machine == nil:
		v.reject(field.Invalid(path, value, fmt.Sprintf(
			"machine %s is not available to project %q: omit the field to have any, or set one that is idle or allocated in the project", id.MachineID, v.project)))
		return
	}
	if v.validator.Referrers == nil || asking == (Referrer{}) {
		return
	}
	referrer, found, err := v.validator.Referrers.Referrer(v.ctx, v.namespace, id.MachineID, asking)
	if err != nil {
		v.warn(path, value, err)
		return
	}
	if found {
		v.errs = append(v.errs, field.Invalid(path, value,
			fmt.Sprintf("machine %s is already held by %s %q", id.MachineID, referrer.Resource, referrer.Name)))
	}
}

// Adoption warns of a machine that the project has already, and that is not as the spec
// says: an adoption takes it as it is. provider is the path of the provider ID.
func (v *Validation) Adoption(provider *field.Path, value, old, machineType, image string) {
	id, err := providerid.Parse(value)
	if value == "" || value == old || err != nil || len(v.errs) > 0 || v.done() {
		return
	}
	machine, err := v.validator.Catalogue.LookupMachine(v.ctx, id.MachineID, v.project)
	if err != nil || machine == nil || machine.Allocation == nil {
		return
	}
	if size := machine.Size; size != machineType {
		warning.Add(v.ctx, "%s: machine %s has size %q, not %q (machineType), and is adopted as it is: see condition MatchesSpec", provider, id.MachineID, size, machineType)
	}
	if installed := machine.Allocation.Image; !metal.MeansImage(image, installed) {
		warning.Add(v.ctx, "%s: machine %s has image %q, not %q (image), and is adopted as it is: see condition MatchesSpec", provider, id.MachineID, installed, image)
	}
}

func (v *Validation) report(path *field.Path, value string, ok bool, all []string, err error) {
	switch {
	case err != nil:
		v.warn(path, value, err)
	case !ok:
		v.reject(unsupported(path, value, all))
	}
}

// reject refuses what is not to be had.
func (v *Validation) reject(err *field.Error) {
	if v.moved {
		warning.Add(v.ctx, "%v", err)
		return
	}
	v.errs = append(v.errs, err)
}

// warn lets a value through that cannot be checked: the metal-api has the last
// word anyway, and an outage of it must not be one of this server. A namespace
// that looks up too much is another matter: its request is refused, and can be
// made again in a moment.
func (v *Validation) warn(path *field.Path, value string, err error) {
	if !v.refuseLimited(path, err) {
		warning.Add(v.ctx, "%s: %q not validated: %v", path, value, err)
	}
}

// refuseLimited refuses the request of a namespace that looks up too much.
func (v *Validation) refuseLimited(path *field.Path, err error) bool {
	tooMany, ok := errors.AsType[*metal.LookupLimitError](err)
	if !ok || v.moved {
		return false
	}
	registry.RejectTooManyRequests(v.ctx, tooMany.Error(), tooMany.RetryAfter)
	v.stop(field.InternalError(path, tooMany))
	return true
}

// refuseUnchecked refuses the request, which can be made again, for a value that cannot be
// checked now, and that nothing checks later.
func (v *Validation) refuseUnchecked(path *field.Path, value string, err error) {
	if v.refuseLimited(path, err) {
		return
	}
	err = fmt.Errorf("%q cannot be validated now: %w", value, err)
	registry.RejectUnavailable(v.ctx, fmt.Sprintf("%s: %v", path, err), recheckInterval)
	v.stop(field.InternalError(path, err))
}

// done returns whether lookups end here: the request has ended, or exceeded its
// limit.
func (v *Validation) done() bool {
	if err := v.ctx.Err(); err != nil {
		v.stop(field.InternalError(field.NewPath("spec"), fmt.Errorf("request ended before validation: %w", err)))
	}
	return v.stopped
}

func (v *Validation) stop(err *field.Error) {
	if !v.stopped {
		v.stopped, v.errs = true, append(v.errs, err)
	}
}

// recheckInterval is when a request can be made again that could not be checked.
const recheckInterval = time.Second

// maxListed is how many supported values an error lists.
const maxListed = 15

// unsupported lists the values that there are; of many, those that begin most
// like the one that was given.
func unsupported(path *field.Path, value string, all []string) *field.Error {
	all = slices.Sorted(slices.Values(all))
	if len(all) <= maxListed {
		return field.NotSupported(path, value, all)
	}
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(commonPrefixLength(b, value), commonPrefixLength(a, value)) })
	err := field.NotSupported(path, value, slices.Sorted(slices.Values(all[:maxListed])))
	err.Detail += fmt.Sprintf(" and %d more", len(all)-maxListed)
	return err
}

// commonPrefixLength is how many bytes two strings begin with in common.
func commonPrefixLength(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// The features that the kinds need of an image.
const (
	Machine  = metal.FeatureMachine
	Firewall = metal.FeatureFirewall
)
