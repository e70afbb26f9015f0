// SPDX-License-Identifier: Apache-2.0

// Package image serves MetalStackImages.
package image

import (
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Resource is the plural name.
const Resource = "metalstackimages"

type object = infrastructure.MetalStackImage

// Kind returns what serves images.
func Kind() *registry.ReadOnlyKind[*object] {
	return &registry.ReadOnlyKind[*object]{
		Plural: Resource, Singular: "metalstackimage", ShortNames: []string{"msimg"},
		ClusterScoped:    true,
		New:              func() *object { return &object{} },
		NewList:          func() runtime.Object { return &infrastructure.MetalStackImageList{} },
		SelectableFields: selectableFields,
		Columns:          columns(),
	}
}

func selectableFields(i *object) fields.Set {
	return fields.Set{"status.alias": i.Status.Alias, "status.newest": strconv.FormatBool(i.Status.Newest), "status.os": i.Status.OS}
}

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "OS", Description: "Operating system.", Cell: func(i *object) any { return registry.OrNone(i.Status.OS) }},
		{Name: "Version", Description: "Version of the operating system, with the patch.", Cell: func(i *object) any {
			return registry.OrNone(i.Status.Version)
		}},
		{Name: "Alias", Description: "Name that stands for the newest image of this version.", Cell: func(i *object) any {
			return registry.OrNone(i.Status.Alias)
		}},
		{Name: "Newest", Type: "boolean", Description: "Whether the alias stands for this image now.", Cell: func(i *object) any { return i.Status.Newest }},
		{Name: "Features", Description: "What can be installed with the image.", Cell: func(i *object) any {
			return registry.OrNone(strings.Join(i.Status.Features, ","))
		}},
		{Name: "Classification", Description: "Whether the image is a preview, supported or deprecated.", Cell: func(i *object) any {
			return registry.OrNone(i.Status.Classification)
		}},
		{Name: "Expires", Description: "Until when metal-stack supports the image.", Cell: func(i *object) any {
			if i.Status.ExpirationTime == nil {
				return registry.OrNone("")
			}
			return expiry(i.Status.ExpirationTime.Time, time.Now())
		}},
		{Name: "Description", Description: "Description of the image in metal-stack.", Wide: true, Cell: func(i *object) any {
			return registry.OrNone(i.Status.Description)
		}},
	}
}

func expiry(at, now time.Time) string {
	if at.After(now) {
		return "in " + duration.HumanDuration(at.Sub(now))
	}
	return duration.HumanDuration(now.Sub(at)) + " ago"
}
