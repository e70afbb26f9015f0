// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// ipam keeps prefixes and the addresses in them, as go-ipam does, with its
// order of allocation, its counts and its way of freeing a child prefix in
// two steps of which the second can fail (513).
type ipam struct {
	prefixes map[string]*prefix
}

type prefix struct {
	cidr     netip.Prefix
	parent   string
	isParent bool
	children map[netip.Prefix]bool // taken
	free     *netipx.IPSet         // of the space for children; nil: not computed
	ips      map[netip.Addr]struct{}
	next     netip.Addr // all addresses below are taken
}

func newIPAM() *ipam { return &ipam{prefixes: map[string]*prefix{}} }

// ipamError is an error with the code that the ipam's RPC gives it.
type ipamError struct {
	code, msg string
}

func (e *ipamError) Error() string { return e.code + ": " + e.msg }

const (
	ipamNotFound      = "not_found"
	ipamInvalid       = "invalid_argument"
	ipamAlreadyExists = "already_exists"
)

func (i *ipam) missing(cidr string) error {
	return &ipamError{ipamNotFound, fmt.Sprintf("NotFound prefix:%s not found:sql: no rows in result set", cidr)}
}

func (i *ipam) create(cidr, parent string) error {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return &ipamError{ipamInvalid, err.Error()}
	}
	p = p.Masked()
	n := &prefix{
		cidr: p, parent: parent,
		children: map[netip.Prefix]bool{},
		ips:      map[netip.Addr]struct{}{},
		next:     p.Addr(),
	}
	// the first address is never handed out, nor is the broadcast address of IPv4
	n.ips[p.Addr()] = struct{}{}
	if p.Addr().Is4() {
		n.ips[netipx.PrefixLastIP(p)] = struct{}{}
	}
	i.prefixes[p.String()] = n
	return nil
}

// acquireChild takes a free prefix of a length out of parent. Whatever is
// wrong, the answer is that the argument is.
func (i *ipam) acquireChild(parent string, length int) (string, error) {
	if length > 128 {
		return "", &ipamError{ipamInvalid, "length must not be greater than 128"}
	}
	p, ok := i.prefixes[parent]
	if !ok {
		return "", &ipamError{ipamInvalid, fmt.Sprintf("NotFound: unable to find prefix for cidr:%s error:%s", parent, i.missing(parent).(*ipamError).msg)}
	}
	if p.cidr.Bits() >= length {
		return "", &ipamError{ipamInvalid, fmt.Sprintf("given length:%d must be greater than prefix length:%d", length, p.cidr.Bits())}
	}
	if p.hasIPs() {
		return "", &ipamError{ipamInvalid, fmt.Sprintf("prefix %s has ips, acquire child prefix not possible", p.cidr)}
	}
	free, err := p.space()
	if err != nil {
		return "", &ipamError{ipamInvalid, err.Error()}
	}
	child, rest, ok := free.RemoveFreePrefix(uint8(length))
	if !ok {
		return "", &ipamError{ipamInvalid, fmt.Sprintf("no prefix found in %s with length:%d%s", parent, length, left(free))}
	}
	if !child.IsValid() { // longer than the family's addresses (2/544)
		return "", &ipamError{ipamInvalid, fmt.Sprintf("acquired child prefix:%s is not valid", child)}
	}
	p.free = rest
	p.children[child] = true
	p.isParent = true
	return child.String(), i.create(child.String(), parent)
}

// left names the free prefixes that are too small.
func left(free *netipx.IPSet) string {
	var names []string
	for _, p := range free.Prefixes() {
		names = append(names, p.String())
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(", but %s is available", names[0])
	}
	return fmt.Sprintf(", but %s are available", strings.Join(names, ","))
}

// space is what of the prefix no child has taken.
func (p *prefix) space() (*netipx.IPSet, error) {
	if p.free != nil {
		return p.free, nil
	}
	var b netipx.IPSetBuilder
	b.AddPrefix(p.cidr)
	for c, taken := range p.children {
		if taken {
			b.RemovePrefix(c)
		}
	}
	set, err := b.IPSet()
	p.free = set
	return set, err
}

// releaseChild gives a child prefix back to its parent, and then deletes it,
// which fails for an IPv6 prefix with one address: the first test lets two
// addresses pass, of which IPv6 has only one of its own. The parent has it
// back by then.
func (i *ipam) releaseChild(cidr string) error {
	p, ok := i.prefixes[cidr]
	if !ok {
		return i.missing(cidr)
	}
	parent, ok := i.prefixes[p.parent]
	if !ok {
		return &ipamError{ipamInvalid, fmt.Sprintf("NotFound: unable to find prefix for cidr:%q error:netip.ParsePrefix(%q): no '/'", p.parent, p.parent)}
	}
	if len(p.ips) > 2 {
		return &ipamError{ipamInvalid, fmt.Sprintf("prefix %s has ips, deletion not possible", p.cidr)}
	}
	parent.children[p.cidr] = false
	parent.free = nil
	if err := i.delete(cidr); err != nil {
		return &ipamError{ipamInvalid, fmt.Sprintf("unable to delete child prefix:%q :%s", cidr, err.(*ipamError).msg)}
	}
	return nil
}

// delete forgets a prefix.
func (i *ipam) delete(cidr string) error {
	p, ok := i.prefixes[cidr]
	if !ok {
		return &ipamError{ipamNotFound, fmt.Sprintf("NotFound: unable to find prefix for cidr:%s error:%s", cidr, i.missing(cidr).(*ipamError).msg)}
	}
	if p.hasIPs() {
		return &ipamError{ipamInvalid, fmt.Sprintf("prefix %s has ips, delete prefix not possible", p.cidr)}
	}
	delete(i.prefixes, cidr)
	return nil
}

func (p *prefix) hasIPs() bool {
	own := 1
	if p.cidr.Addr().Is4() {
		own = 2
	}
	return len(p.ips) > own
}

// acquire takes the lowest free address.
func (i *ipam) acquire(cidr string) (string, error) {
	p, err := i.forIPs(cidr)
	if err != nil {
		return "", err
	}
	for a := p.next; p.cidr.Contains(a); a = a.Next() {
		if _, taken := p.ips[a]; taken {
			p.next = a
			continue
		}
		p.ips[a] = struct{}{}
		p.next = a
		return a.String(), nil
	}
	return "", &ipamError{ipamNotFound, fmt.Sprintf("NoIPAvailableError: no more ips in prefix: %s left, length of prefix.ips: %d", p.cidr, len(p.ips))}
}

func (i *ipam) acquireSpecific(cidr, address string) (string, error) {
	p, err := i.forIPs(cidr)
	if err != nil {
		return "", err
	}
	a, err := netip.ParseAddr(address)
	if err != nil || !p.cidr.Contains(a) {
		return "", &ipamError{ipamInvalid, fmt.Sprintf("given ip:%s is not in %s", address, cidr)}
	}
	if _, taken := p.ips[a]; taken {
		return "", &ipamError{ipamAlreadyExists, fmt.Sprintf("AlreadyAllocatedError: given ip:%s is already allocated", a)}
	}
	p.ips[a] = struct{}{}
	return a.String(), nil
}

func (i *ipam) forIPs(cidr string) (*prefix, error) {
	p, ok := i.prefixes[cidr]
	if !ok {
		return nil, &ipamError{ipamNotFound, fmt.Sprintf("NotFound: unable to find prefix for cidr:%s error:%s", cidr, i.missing(cidr).(*ipamError).msg)}
	}
	if p.isParent {
		return nil, &ipamError{ipamInvalid, fmt.Sprintf("prefix %s has childprefixes, acquire ip not possible", p.cidr)}
	}
	return p, nil
}

// release gives an address back; one that is not taken is no error to the
// metal-api.
func (i *ipam) release(cidr, address string) {
	p, ok := i.prefixes[cidr]
	if !ok {
		return
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return
	}
	delete(p.ips, a)
	if a.Less(p.next) {
		p.next = a
	}
}

// usage counts as go-ipam does: all addresses of the prefix as available, the
// ones of its own as used, prefixes with two bits to count, and nothing above
// 2^31-1 (041, 073).
func (i *ipam) usage(cidr string) (wire.Usage, error) {
	p, ok := i.prefixes[cidr]
	if !ok {
		return wire.Usage{}, i.missing(cidr)
	}
	u := wire.Usage{UsedIPs: uint64(len(p.ips))}
	host := p.cidr.Addr().BitLen() - p.cidr.Bits()
	if host > 31 {
		u.AvailableIPs = math.MaxInt32
	} else {
		u.AvailableIPs = 1 << host
	}
	free, err := p.space()
	if err != nil {
		return wire.Usage{}, err
	}
	smallest := p.cidr.Addr().BitLen() - 2
	for _, f := range free.Prefixes() {
		if bits := smallest - f.Bits(); bits >= 0 {
			u.AvailablePrefixes += 1 << min(bits, 62)
			u.AvailablePrefixes = min(u.AvailablePrefixes, math.MaxInt32)
		}
	}
	for _, taken := range p.children {
		if taken {
			u.UsedPrefixes++
		}
	}
	return u, nil
}

func (i *ipam) taken(cidr, address string) bool {
	p, ok := i.prefixes[cidr]
	if !ok {
		return false
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	_, taken := p.ips[a]
	return taken
}
