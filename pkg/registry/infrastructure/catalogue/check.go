package catalogue

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Check is one validation. Each of its methods looks at one field, and only if
// its value is a new one: what was accepted once, and may have gone out of the
// catalogue since, must not keep an object from being updated or released.
type Check struct {
	ctx       context.Context
	checks    *Checks
	namespace string
	project   string
	errs      field.ErrorList
}

// Begin begins the validation of an object in a namespace.
func (c *Checks) Begin(ctx context.Context, namespace string) *Check {
	project, _ := c.Bindings.Project(namespace)
	return &Check{ctx: ctx, checks: c, namespace: namespace, project: project}
}

// Errors returns what was found.
func (c *Check) Errors() field.ErrorList { return c.errs }

// Project checks that value is the project that the namespace is bound to.
func (c *Check) Project(path *field.Path, value, old string) {
	if value == "" || value == old || value == c.project {
		return
	}
	c.errs = append(c.errs, field.Invalid(path, value,
		fmt.Sprintf("the namespace %q is bound to the project %q: leave the field out, or use a namespace that is bound to the other project", c.namespace, c.project)))
}

// Size checks that there is such a size.
func (c *Check) Size(path *field.Path, value, old string) {
	if value == "" || value == old {
		return
	}
	size, all, err := c.checks.Catalogue.LookupSize(c.ctx, value)
	c.found(path, value, size != nil, all, err)
}

// Image checks that there is such an image, and that it has the feature.
func (c *Check) Image(path *field.Path, value, old, feature string) {
	if value == "" || value == old {
		return
	}
	image, all, err := c.checks.Catalogue.LookupImage(c.ctx, value, feature)
	if err == nil && image == nil {
		if other, _, err := c.checks.Catalogue.LookupImage(c.ctx, value, ""); err == nil && other != nil {
			invalid := unsupported(path, value, all)
			invalid.Detail = fmt.Sprintf("the image cannot be used for a %s; %s", feature, invalid.Detail)
			c.errs = append(c.errs, invalid)
			return
		}
	}
	c.found(path, value, image != nil, all, err)
}

// Partition checks that there is such a partition.
func (c *Check) Partition(path *field.Path, value, old string) {
	if value == "" || value == old {
		return
	}
	partition, all, err := c.checks.Catalogue.LookupPartition(c.ctx, value)
	c.found(path, value, partition != nil, all, err)
}

// Network checks that the project may use the network. It answers the same
// about a network that does not exist and about one of another project.
func (c *Check) Network(path *field.Path, value, old string) {
	if value == "" || value == old {
		return
	}
	network, all, err := c.checks.Catalogue.LookupNetwork(c.ctx, value, c.project)
	c.found(path, value, c.mayUse(network), all, err)
}

// Networks checks a list of networks.
func (c *Check) Networks(path *field.Path, values, old []string) {
	for i, value := range values {
		if !slices.Contains(old, value) {
			c.Network(path.Index(i), value, "")
		}
	}
}

// PrivateNetwork checks that the network is one of the project's own.
func (c *Check) PrivateNetwork(path *field.Path, value, old string) {
	if value == "" || value == old {
		return
	}
	network, all, err := c.checks.Catalogue.LookupNetwork(c.ctx, value, c.project)
	if err == nil && c.mayUse(network) && network.Project != c.project {
		c.errs = append(c.errs, field.Invalid(path, value,
			fmt.Sprintf("is not a private network of the project %q: leave the field out to have one allocated", c.project)))
		return
	}
	c.found(path, value, c.mayUse(network), all, err)
}

// mayUse is false for no network.
func (c *Check) mayUse(n *metal.Network) bool {
	return n != nil && !n.Underlay && !n.PrivateSuper && (n.Project == "" || n.Project == c.project || n.Shared)
}

// ProviderID checks that no other object of the namespace has the machine. Its
// syntax is not checked here.
func (c *Check) ProviderID(path *field.Path, value, old string, asking Holder) {
	id, err := providerid.Parse(value)
	if value == "" || value == old || err != nil || c.checks.Holders == nil {
		return
	}
	holder, held, err := c.checks.Holders.Holder(c.ctx, c.namespace, id.MachineID, asking)
	if err != nil {
		c.warn(path, value, err)
		return
	}
	if held {
		c.errs = append(c.errs, field.Invalid(path, value,
			fmt.Sprintf("machine %s is that of %s %q already", id.MachineID, holder.Resource, holder.Name)))
	}
}

func (c *Check) found(path *field.Path, value string, ok bool, all []string, err error) {
	switch {
	case err != nil:
		c.warn(path, value, err)
	case !ok:
		c.errs = append(c.errs, unsupported(path, value, all))
	}
}

// warn lets a value through that cannot be checked: the metal-api has the last
// word anyway, and an outage of it must not be one of this server.
func (c *Check) warn(path *field.Path, value string, err error) {
	warning.AddWarning(c.ctx, "", fmt.Sprintf("%s: %q was not checked: %v", path, value, err))
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
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(common(b, value), common(a, value)) })
	err := field.NotSupported(path, value, slices.Sorted(slices.Values(all[:maxListed])))
	err.Detail += fmt.Sprintf(" and %d more", len(all)-maxListed)
	return err
}

// common is how many bytes two strings begin with in common.
func common(a, b string) int {
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
