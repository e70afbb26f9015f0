// SPDX-License-Identifier: Apache-2.0

package client

import (
	"slices"
	"strings"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/metal-stack/metal-go/api/models"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// toFact turns an answer into a fact; an answer without an id is none.
func toFact[M, F any](op string, model *M, fact func(*M) *F) (*F, error) {
	if model != nil {
		if f := fact(model); f != nil {
			return f, nil
		}
	}
	return nil, operations[op].wrapError(errNoEntity)
}

// toFacts turns the entries of an answer into facts; one without an id spoils
// them all.
func toFacts[M, F any](op string, entries []*M, fact func(*M) *F) ([]*F, error) {
	facts := make([]*F, 0, len(entries))
	for _, e := range entries {
		f, err := toFact(op, e, fact)
		if err != nil {
			return nil, err
		}
		facts = append(facts, f)
	}
	return facts, nil
}

func networkFact(n *models.V1NetworkResponse) *metal.Network {
	if deref(n.ID) == "" {
		return nil
	}
	f := &metal.Network{
		ID: *n.ID, Name: n.Name, Project: n.Projectid, Partition: n.Partitionid, ParentNetworkID: n.Parentnetworkid,
		Prefixes: nilIfEmpty(n.Prefixes), VRF: n.Vrf, NAT: deref(n.Nat), PrivateSuper: deref(n.Privatesuper),
		Underlay: deref(n.Underlay), Shared: n.Shared, Labels: n.Labels, Description: n.Description,
		DestinationPrefixes: nilIfEmpty(n.Destinationprefixes), Created: toTime(n.Created),
	}
	if len(f.Labels) == 0 {
		f.Labels = nil
	}
	if len(n.Defaultchildprefixlength) > 0 {
		f.ChildPrefixLengths = n.Defaultchildprefixlength
	}
	if n.Usage != nil {
		f.AvailableIPs, f.UsedIPs = deref(n.Usage.AvailableIps), deref(n.Usage.UsedIps)
	}
	return f
}

func ipFact(i *models.V1IPResponse) *metal.IP {
	if deref(i.Ipaddress) == "" {
		return nil
	}
	return &metal.IP{
		Address: *i.Ipaddress, Name: i.Name, Description: i.Description, Project: deref(i.Projectid), NetworkID: deref(i.Networkid),
		Type: deref(i.Type), Tags: sortedCopy(i.Tags), AllocationUUID: deref(i.Allocationuuid),
		Created: toTime(i.Created), Changed: toTime(i.Changed),
	}
}

func sizeFact(s *models.V1SizeResponse) *metal.Size {
	if deref(s.ID) == "" {
		return nil
	}
	f := &metal.Size{ID: *s.ID, Name: s.Name, Description: s.Description, Created: toTime(s.Created)}
	for _, c := range s.Constraints {
		if c != nil {
			f.Constraints = append(f.Constraints, metal.SizeConstraint{Type: deref(c.Type), Identifier: c.Identifier, Min: c.Min, Max: c.Max})
		}
	}
	return f
}

func imageFact(i *models.V1ImageResponse) *metal.Image {
	if deref(i.ID) == "" {
		return nil
	}
	f := &metal.Image{
		ID: *i.ID, Alias: imageAlias(*i.ID), Name: i.Name, Description: i.Description,
		Features: sortedCopy(i.Features), Classification: i.Classification,
		Created: toTime(i.Created),
	}
	if i.ExpirationDate != nil {
		f.Expires = toTime(*i.ExpirationDate)
	}
	return f
}

func partitionFact(p *models.V1PartitionResponse) *metal.Partition {
	if deref(p.ID) == "" {
		return nil
	}
	return &metal.Partition{ID: *p.ID, Name: p.Name, Description: p.Description, Labels: p.Labels, Created: toTime(p.Created)}
}

// projectFact is a project as a list shows it, without what is used of its quotas.
func projectFact(p *models.V1ProjectResponse) *metal.Project {
	if p.Meta == nil || p.Meta.ID == "" {
		return nil
	}
	f := &metal.Project{
		ID: p.Meta.ID, Name: p.Name, Description: p.Description, Tenant: p.TenantID, Created: toTime(p.Meta.CreatedTime),
	}
	if q := p.Quotas; q != nil {
		f.Machines.Limit, f.Addresses.Limit = quotaLimit(q.Machine), quotaLimit(q.IP)
	}
	return f
}

// usedProjectFact is a project as a get shows it.
func usedProjectFact(p *models.V1ProjectResponse) *metal.Project {
	f := projectFact(p)
	if f != nil && p.Quotas != nil {
		f.Machines.Used, f.Addresses.Used = quotaUsed(p.Quotas.Machine), quotaUsed(p.Quotas.IP)
	}
	return f
}

func quotaLimit(q *models.V1Quota) *int64 {
	if q == nil || q.Quota <= 0 {
		return nil
	}
	return new(int64(q.Quota))
}

func quotaUsed(q *models.V1Quota) *int64 {
	if q == nil {
		return nil
	}
	return new(max(int64(q.Used), 0))
}

func reservationFact(r *models.V1SizeReservationResponse) *metal.Reservation {
	if deref(r.ID) == "" {
		return nil
	}
	return &metal.Reservation{
		ID: *r.ID, Size: deref(r.Sizeid), Project: deref(r.Projectid), Partitions: sortedCopy(r.Partitionids), Amount: max(int(deref(r.Amount)), 0),
	}
}

// sizeImageConstraintFact: the id of a constraint is that of its size.
func sizeImageConstraintFact(c *models.V1SizeImageConstraintResponse) *metal.SizeImageConstraint {
	if deref(c.ID) == "" {
		return nil
	}
	f := &metal.SizeImageConstraint{Size: *c.ID}
	if c.Constraints != nil && len(c.Constraints.Images) > 0 {
		f.Images = c.Constraints.Images
	}
	return f
}

func layoutFact(l *models.V1FilesystemLayoutResponse) *metal.FilesystemLayout {
	if deref(l.ID) == "" {
		return nil
	}
	f := &metal.FilesystemLayout{ID: *l.ID}
	if c := l.Constraints; c != nil {
		f.Sizes = sortedCopy(c.Sizes)
		if len(c.Images) > 0 {
			f.Images = c.Images
		}
	}
	return f
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// nilIfEmpty makes an empty list nil: answers have it either way.
func nilIfEmpty(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// exactCopy copies a list without the room for more that decoders leave; an empty one
// becomes nil.
func exactCopy(list []string) []string { return nilIfEmpty(slices.Clone(list)) }

func sortedCopy(tags []string) []string {
	sorted := exactCopy(tags)
	slices.Sort(sorted)
	return sorted
}

func toTime(t strfmt.DateTime) time.Time {
	return roundTime(time.Time(t))
}

// roundTime rounds to what the metal-api stores: the answer of a write carries
// nanoseconds, later reads milliseconds (docs/metal-api.md, Q10).
//
// A time that cannot be written as one again, because in UTC its year has more
// than four digits, or none, is none.
func roundTime(t time.Time) time.Time {
	t = t.UTC().Round(time.Millisecond)
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// imageAlias is the id without its patch version: os-major.minor.
func imageAlias(id string) string {
	name, version, ok := cutLast(id, "-")
	if !ok {
		return id
	}
	if parts := strings.SplitN(version, ".", 3); len(parts) == 3 {
		return name + "-" + parts[0] + "." + parts[1]
	}
	return id
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
