// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// defaults are the values that the defaulting functions of a version set, by type and field.
func defaults(version schema.GroupVersion) (map[string]map[string]string, error) {
	found := map[string]map[string]string{}
	for name := range scheme.Scheme.KnownTypes(version) {
		object, err := scheme.Scheme.New(version.WithKind(name))
		if err != nil {
			return nil, err
		}
		if _, ok := object.(metav1.Object); !ok {
			continue // lists, options and other types of Kubernetes'
		}
		fill(reflect.ValueOf(object).Elem())
		before := object.DeepCopyObject()
		scheme.Scheme.Default(object)
		if err := difference(found, reflect.ValueOf(before).Elem(), reflect.ValueOf(object).Elem()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// fill makes the structs below a value exist, so that all defaults are set: one for each
// pointer, and one in each list.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if foreign(v.Type()) {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct && !foreign(v.Type().Elem()) {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct && !foreign(v.Type().Elem()) {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		}
	}
}

// foreign says whether a type is not of this project.
func foreign(t reflect.Type) bool {
	return !strings.Contains(t.PkgPath(), "infrastructure-apiserver/")
}

// difference records the fields that differ, by the type that has them.
func difference(found map[string]map[string]string, before, after reflect.Value) error {
	switch after.Kind() {
	case reflect.Struct:
		for i := range after.NumField() {
			was, is := before.Field(i), after.Field(i)
			if reflect.DeepEqual(was.Interface(), is.Interface()) {
				continue
			}
			leaf := was.IsZero() && (is.Kind() != reflect.Struct || foreign(is.Type()))
			if !leaf {
				if err := difference(found, was, is); err != nil {
					return err
				}
				continue
			}
			name, _, _ := strings.Cut(after.Type().Field(i).Tag.Get("json"), ",")
			text, err := literal(is.Interface())
			if err != nil {
				return err
			}
			typ := after.Type().Name()
			if found[typ] == nil {
				found[typ] = map[string]string{}
			}
			found[typ][name] = text
		}
	case reflect.Pointer:
		return difference(found, before.Elem(), after.Elem())
	case reflect.Slice:
		return difference(found, before.Index(0), after.Index(0))
	default:
		return fmt.Errorf("a default replaces %v by %v", before, after)
	}
	return nil
}

// literal is a value as a user writes it.
func literal(v any) (string, error) {
	if d, ok := v.(*metav1.Duration); ok {
		text := d.Duration.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(text, zero) {
				text = text[:len(text)-2]
			}
		}
		return text, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return strings.Trim(string(raw), `"`), nil
}
