// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
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
func (c *Validator) Begin(ctx context.Context, namespace string) *Validation {
	project, _ := c.Projects.Project(namespace)
	ctx = c.Catalogue.WithAllowance(ctx, namespace)
	return &Validation{ctx: ctx, validator: c, namespace: namespace, project: project, moved: registry.IsMoved(ctx)}
}

// Errors returns what was found.
func (c *Validation) Errors() field.ErrorList { return c.errs }

// Project checks that value is the project that the namespace is bound to.
func (c *Validation) Project(path *field.Path, value, old string) {
	if value == "" || value == old || value == c.project {
		return
	}
	c.errs = append(c.errs, field.Invalid(path, value,
		fmt.Sprintf("namespace %q is bound to project %q: omit the field, or use a namespace that is bound to the other project", c.namespace, c.project)))
}

// Size checks that there is such a size.
func (c *Validation) Size(path *field.Path, value, old string) {
	if value == "" || value == old || c.done() {
		return
	}
	size, all, err := c.validator.Catalogue.LookupSize(c.ctx, value)
	c.report(path, value, size != nil, all, err)
}

// Image checks that there is such an image, and that it has the feature.
func (c *Validation) Image(path *field.Path, value, old, feature string) {
	if value == "" || value == old || c.done() {
		return
	}
	image, all, err := c.validator.Catalogue.LookupImage(c.ctx, value, feature)
	if err == nil && image == nil {
		if other, _, err := c.validator.Catalogue.LookupImage(c.ctx, value, ""); err == nil && other != nil {
			invalid := unsupported(path, value, all)
			invalid.Detail = fmt.Sprintf("image does not support the feature %q; %s", feature, invalid.Detail)
			c.reject(invalid)
			return
		}
	}
	c.report(path, value, image != nil, all, err)
}

// Partition checks that there is such a partition.
func (c *Validation) Partition(path *field.Path, value, old string) {
	if value == "" || value == old || c.done() {
		return
	}
	partition, all, err := c.validator.Catalogue.LookupPartition(c.ctx, value)
	c.report(path, value, partition != nil, all, err)
}

// Network checks that the project may use the network. It answers the same
// about a network that does not exist and about one of another project.
func (c *Validation) Network(path *field.Path, value, old string) {
	if value == "" || value == old || c.done() {
		return
	}
	network, all, err := c.validator.Catalogue.LookupNetwork(c.ctx, value, c.project)
	c.report(path, value, c.mayUse(network), all, err)
}

// Networks checks a list of networks.
func (c *Validation) Networks(path *field.Path, values, old []string) {
	known := sets.New(old...)
	for i, value := range values {
		if !known.Has(value) {
			c.Network(path.Index(i), value, "")
		}
	}
}

// PrivateNetwork checks that the network is one of the project's own.
func (c *Validation) PrivateNetwork(path *field.Path, value, old string) {
	if value == "" || value == old || c.done() {
		return
	}
	network, all, err := c.validator.Catalogue.LookupNetwork(c.ctx, value, c.project)
	if err == nil && c.mayUse(network) && network.Project != c.project {
		c.reject(field.Invalid(path, value,
			fmt.Sprintf("must be a private network of project %q: omit the field to have one allocated", c.project)))
		return
	}
	c.report(path, value, c.mayUse(network), all, err)
}

// mayUse is false for no network.
func (c *Validation) mayUse(n *metal.Network) bool { return n != nil && n.UsableBy(c.project) }

// Host checks that an address in a range of metal-stack is one that the project
// has allocated. It answers the same about one that is free and about another
// project's. An address in no range of metal-stack, and a name, is an endpoint
// that is managed elsewhere.
func (c *Validation) Host(path *field.Path, value, old string) {
	address, err := netip.ParseAddr(value)
	if value == old || err != nil || c.done() {
		return
	}
	_, network, err := c.validator.Catalogue.LookupAddress(c.ctx, address, c.project)
	switch {
	case err != nil:
		c.warn(path, value, err)
	case network != nil && !c.mayUse(network):
		c.reject(field.Invalid(path, value, fmt.Sprintf(
			"is in a metal-stack network and not allocated to project %q: omit the field to have one allocated, or set an address that the project has allocated, an address outside of metal-stack, or a DNS name",
			c.project)))
	case network != nil:
		c.reject(field.Invalid(path, value, fmt.Sprintf(
			"is in network %q and not allocated to project %q: omit the field to have one allocated, or allocate it (metalctl network ip create --ipaddress %s --network %s --project %s --type static)",
			network.ID, c.project, address, network.ID, c.project)))
	}
}

// ProviderID checks that the machine is one that the project can have, and that
// no other object of the namespace has. It answers the same about a machine that
// does not exist and about one of another project. Syntax is not checked here.
func (c *Validation) ProviderID(path *field.Path, value, old string, asking Referrer) {
	id, err := providerid.Parse(value)
	if value == "" || value == old || err != nil || c.done() {
		return
	}
	machine, err := c.validator.Catalogue.LookupMachine(c.ctx, id.MachineID, c.project)
	switch {
	case err != nil:
		c.warn(path, value, err)
	case machine == nil:
		c.reject(field.Invalid(path, value, fmt.Sprintf(
			"machine %s is not available to project %q: omit the field to have any, or set one that is idle or allocated in the project", id.MachineID, c.project)))
		return
	}
	if c.validator.Referrers == nil || asking == (Referrer{}) {
		return
	}
	referrer, found, err := c.validator.Referrers.Referrer(c.ctx, c.namespace, id.MachineID, asking)
	if err != nil {
		c.warn(path, value, err)
		return
	}
	if found {
		c.errs = append(c.errs, field.Invalid(path, value,
			fmt.Sprintf("machine %s is already held by %s %q", id.MachineID, referrer.Resource, referrer.Name)))
	}
}

func (c *Validation) report(path *field.Path, value string, ok bool, all []string, err error) {
	switch {
	case err != nil:
		c.warn(path, value, err)
	case !ok:
		c.reject(unsupported(path, value, all))
	}
}

// reject refuses what is not to be had.
func (c *Validation) reject(err *field.Error) {
	if c.moved {
		warning.Add(c.ctx, "%v", err)
		return
	}
	c.errs = append(c.errs, err)
}

// warn lets a value through that cannot be checked: the metal-api has the last
// word anyway, and an outage of it must not be one of this server. A namespace
// that looks up too much is another matter: its request is refused, and can be
// made again in a moment.
func (c *Validation) warn(path *field.Path, value string, err error) {
	if tooMany, ok := errors.AsType[*metal.LookupLimitError](err); ok && !c.moved {
		registry.RejectTooManyRequests(c.ctx, tooMany.Error(), tooMany.RetryAfter)
		c.stop(field.InternalError(path, tooMany))
		return
	}
	warning.Add(c.ctx, "%s: %q not validated: %v", path, value, err)
}

// done returns whether lookups end here: the request has ended, or exceeded its
// limit.
func (c *Validation) done() bool {
	if err := c.ctx.Err(); err != nil {
		c.stop(field.InternalError(nil, fmt.Errorf("request ended before validation: %w", err)))
	}
	return c.stopped
}

func (c *Validation) stop(err *field.Error) {
	if !c.stopped {
		c.stopped, c.errs = true, append(c.errs, err)
	}
}

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
