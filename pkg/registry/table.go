// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metatable "k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Column is a column of a table, as kubectl get shows it.
type Column[T Object] struct {
	// Name is the heading, in capitals or not: kubectl capitalizes it.
	Name string
	// Type is an OpenAPI type; empty: string.
	Type string
	// Description says what the column shows.
	Description string
	// Wide columns are shown with -o wide only.
	Wide bool
	// Cell returns what the column shows of an object.
	Cell func(T) any
}

// Age is the column that goes last.
func Age[T Object]() Column[T] {
	return Column[T]{
		Name: "Age", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Cell: func(obj T) any { return metatable.ConvertToHumanReadableDateType(obj.GetCreationTimestamp()) },
	}
}

// table shows objects of one kind as rows.
type table[T Object] struct {
	columns []Column[T]
}

var _ rowConvertor = table[Object]{}

// ConvertToTable implements rest.TableConvertor.
func (t table[T]) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	var out metav1.Table
	opts, ok := options.(*metav1.TableOptions)
	if !ok || opts == nil {
		opts = &metav1.TableOptions{}
	}
	if !opts.NoHeaders {
		out.ColumnDefinitions = t.definitions()
	}
	if list, err := meta.ListAccessor(object); err == nil {
		out.ResourceVersion = list.GetResourceVersion()
		out.Continue = list.GetContinue()
		out.RemainingItemCount = list.GetRemainingItemCount()
	} else if common, err := meta.CommonAccessor(object); err == nil {
		out.ResourceVersion = common.GetResourceVersion()
	}
	var err error
	if meta.IsListType(object) {
		out.Rows = make([]metav1.TableRow, 0, meta.LenList(object))
		err = meta.EachListItem(object, func(item runtime.Object) error { return t.add(&out, item, opts) })
	} else {
		err = t.add(&out, object, opts)
	}
	return &out, err
}

func (t table[T]) definitions() []metav1.TableColumnDefinition {
	definitions := []metav1.TableColumnDefinition{{
		Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
	}}
	for _, c := range t.columns {
		d := metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Description: c.Description}
		if d.Type == "" {
			d.Type = "string"
		}
		if c.Wide {
			d.Priority = 1
		}
		definitions = append(definitions, d)
	}
	return definitions
}

func (t table[T]) add(out *metav1.Table, item runtime.Object, opts *metav1.TableOptions) error {
	cells, err := t.cellsOf(item)
	if err != nil {
		return err
	}
	out.Rows = append(out.Rows, metav1.TableRow{Cells: cells, Object: runtime.RawExtension{Object: rowObject(item.(T), opts.IncludeObject)}})
	return nil
}

// cellsOf implements rowConvertor.
func (t table[T]) cellsOf(item runtime.Object) ([]any, error) {
	obj, ok := item.(T)
	if !ok {
		return nil, fmt.Errorf("unexpected object type %T", item)
	}
	return t.cells(obj), nil
}

func (t table[T]) cells(obj T) []any {
	cells := make([]any, 0, 1+len(t.columns))
	cells = append(cells, obj.GetName())
	for _, c := range t.columns {
		cells = append(cells, c.Cell(obj))
	}
	return cells
}

// rowObject returns what a row is to show of its object besides the cells.
func rowObject(obj Object, include metav1.IncludeObjectPolicy) runtime.Object {
	switch include {
	case metav1.IncludeMetadata, "":
		return rowMetadata(obj)
	}
	return obj
}

// rowMetadata returns the metadata of an object without managed fields, which are the
// larger part of it: clients of tables, such as kubectl, decode every row, and use none
// of them.
func rowMetadata(obj Object) *metav1.PartialObjectMetadata {
	partial := meta.AsPartialObjectMetadata(obj)
	partial.ManagedFields = nil
	return partial
}
