// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
)

// maxCapacityAge is how old free machines may be before they are counted again, and without a note.
const maxCapacityAge = 10 * time.Second

// maxLine is how long a line of a check may be: all of them together have less than what
// k8s.io/apiserver cuts warnings beyond.
const maxLine = 2 * oneline.MaxWarning

// CheckMachine returns what an allocation of the machine, of which there is no object, would be
// refused for now, in lines that begin as infrastructure.AllocationWouldBeRefused, -Unknown and
// -Note. It changes nothing, and looks up what the namespace may.
func (p *Protocol) CheckMachine(ctx context.Context, m *infrastructure.MetalStackMachine) []string {
	return p.checkUnrecorded(ctx, p.machines, machineLikeOfMachine(m.DeepCopy()))
}

// CheckFirewall is CheckMachine for a firewall.
func (p *Protocol) CheckFirewall(ctx context.Context, f *infrastructure.MetalStackFirewall) []string {
	return p.checkUnrecorded(ctx, p.firewalls, machineLikeOfFirewall(f.DeepCopy()))
}

func (p *Protocol) checkUnrecorded(ctx context.Context, kind *machineLikeKind, m *machineLike) []string {
	if p.opts.Offers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.withAllowance(WithDryRun(ctx), m.meta.Namespace), checkTimeout)
	defer cancel()
	release, ok := p.checks.acquire(ctx, m.meta.Namespace)
	if !ok {
		return []string{infrastructure.AllocationUnknown + "too many checks at a time: retry"}
	}
	defer release()
	c := &machineCheck{offers: p.opts.Offers, machineAllocator: &machineAllocator{
		machineOperation: p.newMachineOperation(kind, kind.refOf(m), m), claim: m, unrecorded: true,
	}}
	cluster, err := p.clusterOf(ctx, m)
	if err == nil {
		c.plan, err = p.newPlan(ctx, kind, m, cluster)
	}
	if err != nil {
		c.record(err)
		return c.lines()
	}
	if id := c.plan.machineID; id != "" {
		if p.reservations.isReserved(id) {
			c.record(errMachineReserved(id))
			return c.lines()
		}
		switch _, adopted, err := c.checkNamedMachine(ctx); {
		case err != nil:
			c.record(err)
			return c.lines()
		case adopted:
			return nil
		}
	}
	if err := p.limiter.checkPause(c.plan.partition); err != nil {
		c.record(err)
	}
	c.run(ctx)
	return c.lines()
}

// clusterOf returns the name of the cluster that a machine is for, as its label says; empty if
// there is none yet.
func (p *Protocol) clusterOf(ctx context.Context, m *machineLike) (string, error) {
	name := m.meta.Labels[infrastructure.ClusterNameLabel]
	if name == "" {
		return "", nil
	}
	_, err := p.clusters.get(ctx, m.meta.Namespace, name)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	return name, err
}

// withAllowance bounds what a dry run looks up.
func (p *Protocol) withAllowance(ctx context.Context, namespace string) context.Context {
	if p.opts.Offers == nil {
		return ctx
	}
	return p.opts.Offers.Catalogue.WithAllowance(ctx, namespace)
}

// machineCheck finds out what the metal-api would refuse a machine or firewall for.
type machineCheck struct {
	*machineAllocator
	offers *Offers
	image  *metal.Image
	// refusals are in the order in which the metal-api checks. notes are what is to be known besides.
	refusals []*refusal
	notes    []string
	// limited: the namespace may look up nothing more now.
	limited bool
}

// checkOffers returns what the metal-api would refuse the allocation for now.
func (a *machineAllocator) checkOffers(ctx context.Context) error {
	if a.p.opts.Offers == nil {
		return nil
	}
	c := &machineCheck{machineAllocator: a, offers: a.p.opts.Offers}
	c.run(ctx)
	for _, note := range c.notes {
		warning.Add(ctx, "%s", note)
	}
	// What is known to be refused is, whatever else cannot be known.
	for _, r := range c.refusals {
		if !r.isUnknown() {
			return r
		}
	}
	if len(c.refusals) > 0 {
		return c.refusals[0]
	}
	return nil
}

// run makes all checks, as long as the namespace may look up what they need.
func (c *machineCheck) run(ctx context.Context) {
	for _, check := range []func(context.Context){
		c.checkImage, c.checkSizeAndPartition, c.checkProject, c.checkImageConstraint, c.checkLayout, c.checkCapacity, c.checkNetworks,
	} {
		if check(ctx); c.limited {
			return
		}
	}
}

// record adds a refusal; of an error that is none, that something could not be known.
func (c *machineCheck) record(err error) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = lookupRefusal(err)
	}
	c.limited = c.limited || r.code == http.StatusTooManyRequests
	if !slices.ContainsFunc(c.refusals, func(other *refusal) bool { return other.message == r.message }) {
		c.refusals = append(c.refusals, r)
	}
}

func (c *machineCheck) refuseField(invalid *field.Error) { c.record(refuseField(invalid)) }

// isUnknown reports whether it was not decided.
func (r *refusal) isUnknown() bool {
	return r.code == http.StatusServiceUnavailable || r.code == http.StatusTooManyRequests
}

// lines are the findings as warnings.
func (c *machineCheck) lines() []string {
	var lines []string
	add := func(begin, text string) { lines = append(lines, oneline.Sanitize(begin+text, maxLine)) }
	for _, r := range c.refusals {
		begin := infrastructure.AllocationWouldBeRefused
		if r.isUnknown() {
			begin = infrastructure.AllocationUnknown
		}
		add(begin, r.message)
	}
	for _, note := range c.notes {
		add(infrastructure.AllocationNote, note)
	}
	return lines
}

// feature is what the image has to be made for.
func (c *machineCheck) feature() string {
	if c.machineKind.role == metal.RoleFirewall {
		return metal.FeatureFirewall
	}
	return metal.FeatureMachine
}

// checkImage looks up the image as the metal-api does when it allocates: the newest of an alias,
// whatever it is like.
func (c *machineCheck) checkImage(ctx context.Context) {
	catalogue, name := c.offers.Catalogue, c.claim.image
	image, _, err := catalogue.LookupImage(ctx, name, "")
	switch {
	case image != nil:
	case err != nil:
		c.record(err)
		return
	default:
		_, known, _ := catalogue.LookupImage(ctx, name, c.feature())
		c.refuseField(field.NotSupported(imagePath, name, known))
		return
	}
	c.image = image
	if !slices.Contains(image.Features, c.feature()) {
		c.refuseField(field.Invalid(imagePath, name, fmt.Sprintf("given image is not usable for a %s, features: %s", c.feature(), strings.Join(image.Features, ","))))
	}
	if !c.unrecorded && !image.Expires.IsZero() && !image.Expires.After(c.p.clock.Now()) {
		c.notes = append(c.notes, fmt.Sprintf("%s: image %q expired at %s: metal-stack installs it all the same", imagePath, image.ID, image.Expires.UTC().Format(time.RFC3339)))
	}
}

func (c *machineCheck) checkSizeAndPartition(ctx context.Context) {
	size, all, err := c.offers.Catalogue.LookupSize(ctx, c.claim.machineType)
	switch {
	case size != nil:
	case err != nil:
		c.record(err)
	default:
		c.refuseField(field.NotSupported(machineTypePath, c.claim.machineType, all))
	}
	if c.plan.partition == "" {
		c.notes = append(c.notes, "the partition is that of the cluster, which is not known: set spec.partition")
		return
	}
	partition, all, err := c.offers.Catalogue.LookupPartition(ctx, c.plan.partition)
	switch {
	case partition != nil:
	case err != nil:
		c.record(err)
	default:
		c.refuseField(field.NotSupported(partitionPath, c.plan.partition, all))
	}
}

// checkProject checks that there is such a project. Its quota refuses nothing: the metal-api shows
// it, and may not enforce it (docs/metal-api.md, Q71).
func (c *machineCheck) checkProject(ctx context.Context) {
	if err := c.p.checkProject(ctx, c.plan.project); err != nil {
		c.record(err)
		return
	}
	p := c.offers.Catalogue.Project(c.plan.project)
	if p == nil || p.Machines.Limit == nil || p.Machines.Used == nil {
		return
	}
	if limit, used := *p.Machines.Limit, *p.Machines.Used; used >= limit {
		c.notes = append(c.notes, fmt.Sprintf("the project has %d of the %d machines and firewalls of its quota: metal-stack may refuse another", used, limit))
	}
}

// checkProject checks that there is such a project, and reads what it has used of its quotas.
func (p *Protocol) checkProject(ctx context.Context, id string) error {
	catalogue := p.opts.Offers.Catalogue
	err := catalogue.RefreshProject(ctx, id)
	switch {
	case metal.IsNotFound(err), err == nil && catalogue.Project(id) == nil:
		return refuse(http.StatusUnprocessableEntity, "project %q, which the namespace is bound to, is not known to metal-stack", id)
	case err != nil:
		return lookupRefusal(err)
	}
	return nil
}

// checkImageConstraint checks whether machines of the size can be installed with the image.
func (c *machineCheck) checkImageConstraint(ctx context.Context) {
	if c.image == nil {
		return
	}
	if err := c.offers.Catalogue.Refresh(ctx, metal.KindSize); err != nil && !c.offers.Catalogue.Loaded(metal.KindSize) {
		c.record(err)
		return
	}
	for _, constraint := range c.offers.Catalogue.SizeImageConstraints() {
		if constraint.Size != c.claim.machineType {
			continue
		}
		if os, versions, refuses := constraint.Refuses(c.image.ID); refuses {
			c.refuseField(field.Invalid(imagePath, c.claim.image,
				fmt.Sprintf("given size:%s with image:%s does violate image constraint:%s %s", constraint.Size, c.image.ID, os, versions)))
		}
	}
}

// checkLayout checks the file system layout. The metal-api takes one that is named for any size
// and image, if the machine that it chooses has its disks.
func (c *machineCheck) checkLayout(ctx context.Context) {
	if c.image == nil {
		return
	}
	layouts, err := c.offers.Catalogue.LookupLayouts(ctx)
	if err == nil && c.layoutRefusal(layouts) != nil {
		// One that is new may not be known yet.
		layouts, err = c.offers.Catalogue.CurrentLayouts(ctx)
	}
	if err != nil {
		c.record(err)
		return
	}
	if r := c.layoutRefusal(layouts); r != nil {
		c.record(r)
		return
	}
	name := c.claim.filesystemLayout
	for _, l := range layouts {
		if l.ID == name && len(l.Sizes) > 0 && !l.MayFit(c.claim.machineType, c.image.ID) {
			c.notes = append(c.notes, fmt.Sprintf("%s: layout %q is not made for size %q and image %q: metal-stack refuses it if the machine does not have its disks", filesystemLayoutPath, name, c.claim.machineType, c.image.ID))
		}
	}
}

// layoutRefusal returns why none of the layouts can be the machine's; nil if one can.
func (c *machineCheck) layoutRefusal(layouts []*metal.FilesystemLayout) error {
	size, name := c.claim.machineType, c.claim.filesystemLayout
	if name == "" {
		if slices.ContainsFunc(layouts, func(l *metal.FilesystemLayout) bool { return l.MayFit(size, c.image.ID) }) {
			return nil
		}
		return refuse(http.StatusUnprocessableEntity, "could not find a matching filesystemLayout for size:%s and image:%s", size, c.image.ID)
	}
	ids := make([]string, 0, len(layouts))
	for _, l := range layouts {
		ids = append(ids, l.ID)
	}
	if slices.Contains(ids, name) {
		return nil
	}
	slices.Sort(ids)
	return refuseField(field.NotSupported(filesystemLayoutPath, name, ids))
}

// checkCapacity checks that a machine of the size is left. One that is named is not chosen by size.
func (c *machineCheck) checkCapacity(ctx context.Context) {
	partition, size := c.plan.partition, c.claim.machineType
	if c.plan.machineID != "" || partition == "" {
		return
	}
	err := c.countMachines(ctx)
	if _, limited := errors.AsType[*metal.LookupLimitError](err); limited {
		c.record(err)
		return
	}
	observed := c.offers.Capacities.CapacityObserved()
	if observed.IsZero() {
		c.record(cmp.Or(err, error(&metal.StaleError{Cause: metal.ErrTimeout})))
		return
	}
	reservations, err := c.offers.Catalogue.CurrentReservations(ctx)
	left := c.offers.left(c.plan.project, partition, size, reservations)
	if err != nil && left.free > 0 {
		c.record(err)
		return
	}
	if left.available < 1 {
		c.record(refuse(http.StatusUnprocessableEntity, "no machine available: %s", left))
	}
	if c.p.clock.Since(observed) > maxCapacityAge {
		c.notes = append(c.notes, "free machines are those of "+observed.UTC().Format(time.RFC3339))
	}
}

// countMachines has machines counted again, unless they were just now. That is one look-up of the
// namespace.
func (c *machineCheck) countMachines(ctx context.Context) error {
	if c.p.clock.Since(c.offers.Capacities.CapacityObserved()) <= maxCapacityAge {
		return nil
	}
	if err := c.offers.Catalogue.AcquireMachineLookup(ctx, "of size "+c.claim.machineType); err != nil {
		return err
	}
	return c.offers.Capacities.Refresh(ctx, metal.Scope{Capacities: true})
}
