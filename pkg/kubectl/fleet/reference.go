// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Kind is one of the two kinds that stand for a machine.
type Kind struct {
	// Name is the kind's name.
	Name string
	// Resource is the plural name, Singular the one that kubectl prints, and Short what
	// people call it.
	Resource, Singular, Short string
}

// The kinds.
var (
	Machine  = Kind{Name: "MetalStackMachine", Resource: "metalstackmachines", Singular: "metalstackmachine", Short: "machine"}
	Firewall = Kind{Name: "MetalStackFirewall", Resource: "metalstackfirewalls", Singular: "metalstackfirewall", Short: "firewall"}
)

var kindsByType = map[string]Kind{
	"machine": Machine, "machines": Machine, "msm": Machine, "metalstackmachine": Machine, "metalstackmachines": Machine,
	"firewall": Firewall, "firewalls": Firewall, "msf": Firewall, "metalstackfirewall": Firewall, "metalstackfirewalls": Firewall,
}

// Reference names a machine or firewall in a namespace that the client knows.
type Reference struct {
	Kind Kind
	Name string
}

// ParseReference parses NAME or TYPE/NAME. Without a TYPE, the kind is the default. A TYPE may
// have the group, and the version, as kubectl writes it.
func ParseReference(arg string, defaultKind Kind) (Reference, error) {
	typ, name, found := strings.Cut(arg, "/")
	if !found {
		typ, name = defaultKind.Singular, arg
	}
	if name == "" || strings.Contains(name, "/") {
		return Reference{}, fmt.Errorf("%q names no object: expected NAME, machine/NAME or firewall/NAME", arg)
	}
	kind, err := parseKind(typ)
	if err != nil {
		return Reference{}, err
	}
	return Reference{Kind: kind, Name: name}, nil
}

func parseKind(typ string) (Kind, error) {
	resource, group, _ := strings.Cut(strings.ToLower(typ), ".")
	kind, known := kindsByType[resource]
	if !known {
		return Kind{}, fmt.Errorf("unknown type %q: expected machine (msm) or firewall (msf), as in machine/NAME", typ)
	}
	version := v1alpha4.SchemeGroupVersion.Version + "."
	if group != "" && strings.TrimPrefix(group, version) != v1alpha4.GroupName {
		return Kind{}, fmt.Errorf("unknown type %q: the group of machines and firewalls is %s", typ, v1alpha4.GroupName)
	}
	return kind, nil
}

// String is the name as kubectl takes it, without the group.
func (r Reference) String() string { return r.Kind.Singular + "/" + r.Name }

// FullName is the name as kubectl prints it with -o name.
func (r Reference) FullName() string {
	return r.Kind.Singular + "." + v1alpha4.GroupName + "/" + r.Name
}

// Arg is the shortest argument of kubectl metal that names it.
func (r Reference) Arg() string {
	if r.Kind == Machine {
		return r.Name
	}
	return r.Kind.Short + "/" + r.Name
}
