// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// enumerations are the named string types of a package, which the OpenAPI shows as strings.
type enumerations struct {
	types map[string]*enumeration
	// fields are the enumerations of fields, by type and name in JSON. Those of a type that is
	// inlined in others are found under its own name, and listed in inlined.
	fields  map[string]map[string]string
	inlined map[string][]string
	// order is that in which a type has its fields.
	order map[string][]string
}

type enumeration struct {
	name, doc string
	values    []value
}

type value struct{ value, doc string }

// of returns the enumeration that a field of a type has, if any.
func (e *enumerations) of(typ, field string) *enumeration {
	if found, ok := e.types[e.fields[typ][field]]; ok {
		return found
	}
	for _, inlined := range e.inlined[typ] {
		if found := e.of(inlined, field); found != nil {
			return found
		}
	}
	return nil
}

// position is where a type has a field. Fields that are inlined come first, as in the source.
func (e *enumerations) position(typ, field string) int {
	return slices.Index(e.ordered(typ), field)
}

func (e *enumerations) ordered(typ string) []string {
	var all []string
	for _, inlined := range e.inlined[typ] {
		all = append(all, e.ordered(inlined)...)
	}
	return append(all, e.order[typ]...)
}

// readEnumerations parses the hand-written types of a package.
func readEnumerations(root, folder string) (*enumerations, error) {
	files, err := filepath.Glob(filepath.Join(root, folder, "*types.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no types in %s: run it in the root of the repository", filepath.Join(root, folder))
	}
	e := &enumerations{types: map[string]*enumeration{}, fields: map[string]map[string]string{}, inlined: map[string][]string{}, order: map[string][]string{}}
	var constants []*ast.ValueSpec
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, declaration := range parsed.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					e.addType(spec, general.Doc)
				case *ast.ValueSpec:
					if !general.Lparen.IsValid() {
						spec.Doc = general.Doc // of a constant that is declared alone
					}
					constants = append(constants, spec)
				}
			}
		}
	}
	for _, spec := range constants {
		if err := e.addValue(spec); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *enumerations) addType(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	name := spec.Name.Name
	switch typ := spec.Type.(type) {
	case *ast.Ident:
		if typ.Name == "string" {
			e.types[name] = &enumeration{name: name, doc: doc.Text()}
		}
	case *ast.StructType:
		e.fields[name] = map[string]string{}
		for _, field := range typ.Fields.List {
			if field.Tag == nil {
				continue
			}
			// Unquote fails for no tag that the compiler takes.
			tag, _ := strconv.Unquote(field.Tag.Value)
			json, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			ident, own := element(field.Type).(*ast.Ident)
			switch {
			case !strings.Contains(options, "inline"):
				e.order[name] = append(e.order[name], json)
				if own {
					e.fields[name][json] = ident.Name
				}
			case own:
				e.inlined[name] = append(e.inlined[name], ident.Name)
			}
		}
	}
}

// element is what a pointer leads to, or a list consists of.
func element(expr ast.Expr) ast.Expr {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return element(expr.X)
	case *ast.ArrayType:
		return element(expr.Elt)
	}
	return expr
}

func (e *enumerations) addValue(spec *ast.ValueSpec) error {
	ident, ok := spec.Type.(*ast.Ident)
	if !ok || e.types[ident.Name] == nil {
		return nil
	}
	for i, name := range spec.Names {
		literal, ok := spec.Values[i].(*ast.BasicLit)
		if !ok {
			return fmt.Errorf("%s is no literal", name.Name)
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", name.Name, err)
		}
		doc := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(spec.Doc.Text()), name.Name), ":")
		if doc == "" {
			return fmt.Errorf("%s has no comment that says what %s means", name.Name, literal.Value)
		}
		e.types[ident.Name].values = append(e.types[ident.Name].values, value{value: text, doc: sentence(doc)})
	}
	return nil
}

// sentence is a text with a capital letter.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
