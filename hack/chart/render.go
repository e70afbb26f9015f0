// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// variant is one way to install, by the components of artifacts/deploy that it has.
type variant struct{ monitoring, certManager bool }

// variants are all ways to install.
var variants = []variant{{}, {monitoring: true}, {certManager: true}, {monitoring: true, certManager: true}}

// components are in the order that artifacts/deploy/README.md asks for.
func (v variant) components() []string {
	var names []string
	if v.monitoring {
		names = append(names, "monitoring")
	}
	if v.certManager {
		names = append(names, "cert-manager")
	}
	return names
}

// originAnnotation is what kustomize says in of an object's source.
const originAnnotation = "config.kubernetes.io/origin"

// renderVariants is what kustomize makes of each variant.
func renderVariants(deploy string) (map[variant][]*unstructured.Unstructured, error) {
	memory := filesys.MakeFsInMemory()
	if err := filepath.WalkDir(deploy, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(deploy, file)
		if err != nil {
			return err
		}
		return memory.WriteFile(path.Join("/deploy", filepath.ToSlash(relative)), content)
	}); err != nil {
		return nil, err
	}
	rendered := map[variant][]*unstructured.Unstructured{}
	for _, v := range variants {
		objects, err := render(memory, v)
		if err != nil {
			return nil, fmt.Errorf("kustomize %s with components %q: %w", deploy, v.components(), err)
		}
		rendered[v] = objects
	}
	return rendered, nil
}

func render(memory filesys.FileSystem, v variant) ([]*unstructured.Unstructured, error) {
	overlay := map[string]any{"resources": []string{"../deploy"}, "buildMetadata": []string{"originAnnotations"}}
	var paths []string
	for _, name := range v.components() {
		paths = append(paths, "../deploy/components/"+name)
	}
	if paths != nil {
		overlay["components"] = paths
	}
	content, err := yaml.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	if err := memory.WriteFile("/overlay/kustomization.yaml", content); err != nil {
		return nil, err
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/overlay")
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(text, &object.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", resource.CurId(), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}
