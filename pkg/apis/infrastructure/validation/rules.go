// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// The rules of a firewall, as the metal-api takes them.
var protocols = []string{"tcp", "udp"}

const (
	commentCharacters = "abcdefghijklmnopqrstuvwxyz_- "
	maxCommentLength  = 100
)

func validateRules(rules *infrastructure.FirewallRules, path *field.Path) field.ErrorList {
	if rules == nil {
		return nil
	}
	errs := tooMany(len(rules.Egress), maxRules, path.Child("egress"))
	errs = append(errs, tooMany(len(rules.Ingress), maxRules, path.Child("ingress"))...)
	if errs != nil {
		return errs
	}
	egress, ingress := 0, 0
	for _, rule := range rules.Egress {
		egress += len(rule.Ports) + len(rule.To)
	}
	for _, rule := range rules.Ingress {
		ingress += len(rule.Ports) + len(rule.From) + len(rule.To)
	}
	errs = append(tooManyInRules(egress, path.Child("egress")), tooManyInRules(ingress, path.Child("ingress"))...)
	if errs != nil {
		return errs
	}
	for i, rule := range rules.Egress {
		path := path.Child("egress").Index(i)
		errs = append(errs, validateRule(rule.Protocol, rule.Ports, rule.Comment, path)...)
		var family addressFamily
		errs = append(errs, family.requirePrefixes(rule.To, path.Child("to"))...)
	}
	for i, rule := range rules.Ingress {
		path := path.Child("ingress").Index(i)
		errs = append(errs, validateRule(rule.Protocol, rule.Ports, rule.Comment, path)...)
		var family addressFamily
		errs = append(errs, family.requirePrefixes(rule.From, path.Child("from"))...)
		errs = append(errs, family.validatePrefixes(rule.To, path.Child("to"))...)
	}
	return errs
}

// tooManyInRules refuses rules with more ports and prefixes than a server-side
// apply, whose size is limited, has room for.
func tooManyInRules(entries int, path *field.Path) field.ErrorList {
	errs := tooMany(entries, maxRuleEntries, path)
	for _, err := range errs {
		err.Detail += ", counting the ports and prefixes of all rules"
	}
	return errs
}

// validateRule validates what rules of both directions have. The protocol may be
// left out, as in a template.
func validateRule(protocol string, ports []int32, comment string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch protocol {
	case "", "tcp", "udp":
	default:
		errs = append(errs, field.NotSupported(path.Child("protocol"), protocol, protocols))
	}
	if len(ports) == 0 {
		errs = append(errs, field.Required(path.Child("ports"), "must list at least one destination port"))
	}
	if many := tooMany(len(ports), maxPorts, path.Child("ports")); many != nil {
		errs, ports = append(errs, many...), nil
	}
	for i, port := range ports {
		if port < 0 || port > 65535 {
			errs = append(errs, field.Invalid(path.Child("ports").Index(i), port, validation.InclusiveRangeError(0, 65535)))
		}
	}
	if long := tooLong(comment, maxCommentLength, path.Child("comment")); long != nil {
		errs = append(errs, long...)
	} else if strings.Trim(strings.ToLower(comment), commentCharacters) != "" {
		errs = append(errs, field.Invalid(path.Child("comment"), comment, "must consist of letters, spaces, '-' and '_'"))
	}
	return errs
}

// addressFamily is the one that the prefixes of a rule share: "" before the
// first one.
type addressFamily string

func (f *addressFamily) requirePrefixes(prefixes []string, path *field.Path) field.ErrorList {
	if len(prefixes) == 0 {
		return field.ErrorList{field.Required(path, "must list at least one prefix; 0.0.0.0/0 and ::/0 match all addresses")}
	}
	return f.validatePrefixes(prefixes, path)
}

func (f *addressFamily) validatePrefixes(prefixes []string, path *field.Path) field.ErrorList {
	if errs := tooMany(len(prefixes), maxPrefixes, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	for i, s := range prefixes {
		prefix, invalid := validatePrefix(s, path.Index(i))
		if invalid != nil {
			errs = append(errs, invalid...)
			continue
		}
		family := addressFamily("IPv6")
		if prefix.Addr().Is4() {
			family = "IPv4"
		}
		if *f == "" {
			*f = family
		}
		if *f != family {
			errs = append(errs, field.Invalid(path.Index(i), s, "must be "+string(*f)+", as the prefixes before it: IPv4 and IPv6 cannot be mixed in one rule"))
		}
	}
	return errs
}

// validatePrefixes validates prefixes of both address families.
func validatePrefixes(prefixes []string, path *field.Path) field.ErrorList {
	if errs := tooMany(len(prefixes), maxPrefixes, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	for i, s := range prefixes {
		_, invalid := validatePrefix(s, path.Index(i))
		errs = append(errs, invalid...)
	}
	return errs
}

func validatePrefix(s string, path *field.Path) (netip.Prefix, field.ErrorList) {
	if long := tooLong(s, maxPrefixLength, path); long != nil {
		return netip.Prefix{}, long
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return prefix, field.ErrorList{field.Invalid(path, s, "must be a prefix, such as 10.0.0.0/8 or 2001:db8::/32; for a single address, such as 203.0.113.7/32")}
	}
	return prefix, nil
}
