// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// examples are the objects of a directory of YAML files.
type examples struct {
	// bindings are namespace=project, from the Namespaces among the objects:
	// standalone there are no Namespaces, the server has a flag for them.
	bindings []string
	objects  []*unstructured.Unstructured
}

func readExamples(dir string) (*examples, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no examples in %s", dir)
	}
	found := &examples{}
	for _, file := range files { // in the order of their names
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := found.add(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return found, nil
}

func (e *examples) add(data []byte) error {
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		obj := &unstructured.Unstructured{}
		switch err := documents.Decode(obj); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(obj.Object) == 0: // nothing but comments
		case obj.GetKind() == "Namespace":
			if project, ok := obj.GetLabels()[infrastructure.ProjectLabel]; ok {
				e.bindings = append(e.bindings, obj.GetName()+"="+project)
			}
		case obj.GroupVersionKind().Group == v1alpha4.GroupName:
			e.objects = append(e.objects, obj)
		default:
			return fmt.Errorf("%s %s: not served standalone", obj.GetKind(), obj.GetName())
		}
	}
}

// servers counts the machines and firewalls among the objects.
func (e *examples) servers() int {
	n := 0
	for _, obj := range e.objects {
		if kind := obj.GetKind(); kind == "MetalStackMachine" || kind == "MetalStackFirewall" {
			n++
		}
	}
	return n
}

// apply does what kubectl apply --server-side does.
func (e *examples) apply(ctx context.Context, client dynamic.Interface) error {
	for _, obj := range e.objects {
		// All kinds of the group form their plural in the regular way.
		resource, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
		_, err := client.Resource(resource).Namespace(obj.GetNamespace()).
			Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "kubectl"})
		if err != nil {
			return fmt.Errorf("%s %s/%s: %w", obj.GetKind(), obj.GetNamespace(), obj.GetName(), err)
		}
	}
	return nil
}

// applyWithin repeats apply while the server says that it is not ready.
func (e *examples) applyWithin(ctx context.Context, client dynamic.Interface, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := e.apply(ctx, client)
		again := apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err)
		if !again || time.Now().After(deadline) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
