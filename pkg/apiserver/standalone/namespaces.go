// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// namespaces serves the bound namespaces, read-only. When an object is not found, kubectl
// gets its namespace; if that resource were not served, it would report that the
// server does not have the kind.
type namespaces struct{ known Namespaces }

var (
	_ rest.Getter               = namespaces{}
	_ rest.Lister               = namespaces{}
	_ rest.Scoper               = namespaces{}
	_ rest.ShortNamesProvider   = namespaces{}
	_ rest.SingularNameProvider = namespaces{}
)

func (namespaces) New() runtime.Object     { return &corev1.Namespace{} }
func (namespaces) NewList() runtime.Object { return &corev1.NamespaceList{} }
func (namespaces) Destroy()                {}
func (namespaces) NamespaceScoped() bool   { return false }
func (namespaces) GetSingularName() string { return "namespace" }
func (namespaces) ShortNames() []string    { return []string{"ns"} }

// Get implements rest.Getter.
func (n namespaces) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	project, bound := n.known.Project(name)
	if !bound {
		return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), name)
	}
	return newNamespace(name, project), nil
}

// List implements rest.Lister. Namespaces that are named after a project's ID are bound
// without being listed: they exist when they are requested.
func (n namespaces) List(_ context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	list := &corev1.NamespaceList{}
	for _, name := range n.known.Names() {
		project, _ := n.known.Project(name)
		namespace := newNamespace(name, project)
		if matches(options, namespace) {
			list.Items = append(list.Items, *namespace)
		}
	}
	return list, nil
}

func matches(options *metainternalversion.ListOptions, namespace *corev1.Namespace) bool {
	if options == nil {
		return true
	}
	if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(namespace.Labels)) {
		return false
	}
	return options.FieldSelector == nil || options.FieldSelector.Matches(fields.Set{metav1.ObjectNameField: namespace.Name})
}

func newNamespace(name, project string) *corev1.Namespace {
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelMetadataName: name, infrastructure.ProjectLabel: project,
		}},
		Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
}

// ConvertToTable implements rest.TableConvertor.
func (namespaces) ConvertToTable(_ context.Context, obj, _ runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"}, {Name: "Status", Type: "string"}, {Name: "Project", Type: "string"},
	}}
	add := func(n *corev1.Namespace) {
		table.Rows = append(table.Rows, metav1.TableRow{
			Cells:  []any{n.Name, string(n.Status.Phase), n.Labels[infrastructure.ProjectLabel]},
			Object: runtime.RawExtension{Object: n},
		})
	}
	switch obj := obj.(type) {
	case *corev1.Namespace:
		add(obj)
	case *corev1.NamespaceList:
		for i := range obj.Items {
			add(&obj.Items[i])
		}
	}
	return table, nil
}
