// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
)

// model is what the page says of a group and version.
type model struct {
	group
	types  map[string]*typ
	values *enumerations
	// beneath are the types that are described beneath a kind, and shared those of several kinds,
	// both in order.
	beneath map[string][]string
	shared  []string
}

// typ is a type of the OpenAPI.
type typ struct {
	name, doc string
	fields    []field
}

// field is one of a type's.
type field struct {
	name, doc string
	required  bool
	// typ is in Markdown; uses is the type of this group that it leads to, if any.
	typ, uses string
	limits    []string
	def       string
}

// newModel reads the types of a group and version.
func newModel(g group, values *enumerations) (*model, error) {
	defs, err := defaults(g.version)
	if err != nil {
		return nil, err
	}
	m := &model{group: g, types: map[string]*typ{}, values: values, beneath: map[string][]string{}}
	for name, definition := range definitions() {
		short, ok := strings.CutPrefix(name, g.models)
		if !ok {
			continue
		}
		t := &typ{name: short, doc: definition.Schema.Description}
		for _, name := range slices.Sorted(maps.Keys(definition.Schema.Properties)) {
			schema := definition.Schema.Properties[name]
			f, err := m.field(short, name, schema)
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %w", short, name, err)
			}
			f.required = slices.Contains(definition.Schema.Required, name)
			f.def = defs[short][name]
			t.fields = append(t.fields, f)
		}
		slices.SortFunc(t.fields, func(a, b field) int { return values.position(short, a.name) - values.position(short, b.name) })
		m.types[short] = t
	}
	m.arrange()
	return m, nil
}

// definitions are those that the server answers with.
func definitions() map[string]common.OpenAPIDefinition {
	return openapi.GetOpenAPIDefinitions(func(name string) spec.Ref { return spec.MustCreateRef(name) })
}

func (m *model) field(typ, name string, schema spec.Schema) (field, error) {
	f := field{name: name, doc: schema.Description}
	switch {
	case name == "apiVersion" && m.isKind(typ):
		f.doc = "`" + m.version.String() + "`"
	case name == "kind" && m.isKind(typ):
		f.doc = "`" + typ + "`"
	}
	text, uses, err := m.typeOf(schema)
	if err != nil {
		return f, err
	}
	if e := m.values.of(typ, name); e != nil {
		if !strings.Contains(text, "string") {
			return f, fmt.Errorf("%s is an enumeration, and its type %s", e.name, text)
		}
		f.typ, f.uses = strings.Replace(text, "string", link(e.name), 1), e.name
		return f, nil // The values say what is allowed.
	}
	f.typ, f.uses, f.limits = text, uses, limits(schema)
	return f, nil
}

// typeOf returns the type of a value in Markdown, and that of this group that it leads to.
func (m *model) typeOf(schema spec.Schema) (text, uses string, err error) {
	ref := schema.Ref.String()
	if ref == "" && len(schema.AllOf) == 1 {
		ref = schema.AllOf[0].Ref.String()
	}
	if ref != "" {
		if own, ok := strings.CutPrefix(ref, m.models); ok {
			return link(own), own, nil
		}
		text, ok := kubernetes[strings.TrimPrefix(ref, "io.k8s.apimachinery.pkg.")]
		if !ok {
			return "", "", fmt.Errorf("layout.go does not say what a user writes for %s", ref)
		}
		return text, "", nil
	}
	if len(schema.Type) != 1 {
		return "", "", fmt.Errorf("its type is %v, and not one", schema.Type)
	}
	switch schema.Type[0] {
	case "array":
		text, uses, err = m.typeOf(*schema.Items.Schema)
		return "list of " + text, uses, err
	case "object":
		if schema.AdditionalProperties == nil {
			return "object", "", nil
		}
		text, uses, err = m.typeOf(*schema.AdditionalProperties.Schema)
		return "map of string to " + text, uses, err
	case "string":
		if schema.Format == "byte" {
			return "string, base64", "", nil
		}
		return "string", "", nil
	case "integer":
		return schema.Format, "", nil
	}
	return schema.Type[0], "", nil
}

// limits are what the server checks of the size of a value, and how server-side apply merges it.
func limits(schema spec.Schema) []string {
	var all []string
	add := func(form string, n *int64) {
		if n != nil {
			all = append(all, fmt.Sprintf(form, *n))
		}
	}
	add("at least %d characters", schema.MinLength)
	add("at most %d characters", schema.MaxLength)
	add("at least %d items", schema.MinItems)
	add("at most %d items", schema.MaxItems)
	add("at most %d entries", schema.MaxProperties)
	for _, part := range schema.AllOf {
		if part.Items != nil && part.Items.Schema != nil {
			add("items of at most %d characters", part.Items.Schema.MaxLength)
		}
		if part.AdditionalProperties != nil && part.AdditionalProperties.Schema != nil {
			add("values of at most %d characters", part.AdditionalProperties.Schema.MaxLength)
		}
	}
	switch list, _ := schema.Extensions.GetString("x-kubernetes-list-type"); list {
	case "set":
		all = append(all, "no item twice")
	case "map":
		keys, _ := schema.Extensions.GetStringSlice("x-kubernetes-list-map-keys")
		all = append(all, "one item for each `"+strings.Join(keys, "`, `")+"`")
	}
	return all
}

// arrange finds the place of each type: beneath the kind that alone leads to it, or among those
// that are shared.
func (m *model) arrange() {
	leading := map[string][]string{}
	for _, s := range m.sections {
		for _, k := range s.kinds {
			for _, name := range m.walk(k.name) {
				if owner := m.owner(name); owner == k.name || owner == "" && !strings.HasSuffix(k.name, "Template") {
					leading[name] = append(leading[name], k.name)
				}
			}
		}
	}
	for _, name := range m.names() {
		if len(leading[name]) == 1 {
			m.beneath[leading[name][0]] = append(m.beneath[leading[name][0]], name)
		} else {
			m.shared = append(m.shared, name)
		}
	}
	for kind, names := range m.beneath {
		order := m.walk(kind)
		slices.SortFunc(names, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	}
}

// owner is the kind whose spec or status a type is.
func (m *model) owner(name string) string {
	for _, suffix := range []string{"Spec", "Status", "Resource"} {
		if kind := strings.TrimSuffix(name, suffix); kind != name && m.isKind(kind) {
			return kind
		}
	}
	return ""
}

// names are the types that are described besides the kinds, in order: those that fields have. What
// is only inlined in others has no place of its own.
func (m *model) names() []string {
	used := map[string]bool{}
	for _, t := range m.types {
		for _, f := range t.fields {
			used[f.uses] = true
		}
	}
	var all []string
	for name := range m.types {
		if used[name] && !m.isKind(name) {
			all = append(all, name)
		}
	}
	for name := range m.values.types {
		if used[name] {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (m *model) isKind(name string) bool {
	for _, s := range m.sections {
		for _, k := range s.kinds {
			if k.name == name {
				return true
			}
		}
	}
	return false
}

// walk lists every type that a kind leads to, in the order of the fields, but for what it embeds of
// other kinds.
func (m *model) walk(kind string) []string {
	var all []string
	var visit func(string)
	visit = func(name string) {
		t, ok := m.types[name]
		if !ok {
			return
		}
		for _, f := range t.fields {
			if f.uses == "" || slices.Contains(all, f.uses) {
				continue
			}
			all = append(all, f.uses)
			if owner := m.owner(f.uses); owner == "" || owner == kind {
				visit(f.uses)
			}
		}
	}
	visit(kind)
	return all
}
