// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// row is a row of a table.
type row struct {
	object runtime.Object
	cells  []any
}

// table returns rows as options ask for them.
func table(options runtime.Object, columns []metav1.TableColumnDefinition, rows ...row) (*metav1.Table, error) {
	out := &metav1.Table{Rows: make([]metav1.TableRow, 0, len(rows))}
	if opts, ok := options.(*metav1.TableOptions); !ok || opts == nil || !opts.NoHeaders {
		out.ColumnDefinitions = columns
	}
	for _, r := range rows {
		out.Rows = append(out.Rows, metav1.TableRow{Cells: r.cells, Object: runtime.RawExtension{Object: r.object}})
	}
	return out, nil
}

func column(name, format, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Format: format, Description: description}
}

// timestamp is a time as a table shows it.
func timestamp(t *metav1.Time) string {
	if t == nil {
		return registry.OrNone("")
	}
	return t.UTC().Format(time.RFC3339)
}

func unexpectedType(object runtime.Object) error {
	return apierrors.NewInternalError(fmt.Errorf("unexpected object type %T", object))
}
