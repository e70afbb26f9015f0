// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// logREST serves the subresource log: a get shows the provisioning events of the machine's
// allocation.
type logREST struct {
	bodyREST[*infrastructure.MachineLog]
}

var (
	_ rest.Getter         = logREST{}
	_ rest.TableConvertor = logREST{}
)

func newLogREST(r *Resource) logREST {
	return logREST{bodyREST[*infrastructure.MachineLog]{r, "MachineLog", func() *infrastructure.MachineLog { return &infrastructure.MachineLog{} }}}
}

// Get implements rest.Getter.
func (r logREST) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	return r.get(ctx, name, r.resource.Operator.Log)
}

// ConvertToTable implements rest.TableConvertor: a row is an event, in the order of the
// log, and its object a log of that event.
func (r logREST) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	log, ok := object.(*infrastructure.MachineLog)
	if !ok {
		return nil, unexpectedType(object)
	}
	rows := make([]row, 0, len(log.Events))
	for i, e := range log.Events {
		one := &infrastructure.MachineLog{ObjectMeta: log.ObjectMeta, Events: log.Events[i : i+1]}
		rows = append(rows, row{one, []any{timestamp(e.Time), e.Event, e.Message}})
	}
	return table(options, []metav1.TableColumnDefinition{
		column("Time", "date-time", "When the event was sent; of a repeated event, when it was sent last."),
		column("Event", "", "Kind of the provisioning event."),
		column("Message", "", "Message of the event."),
	}, rows...)
}
