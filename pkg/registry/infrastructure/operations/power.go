// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// powerREST serves the subresource power: a get shows the power state, a create asks for a
// power action. BootPXE needs the right to reinstall, too: an allocated machine that boots from
// the network wipes its disks and is installed again.
type powerREST struct {
	creater[*infrastructure.MachinePower]
}

var (
	_ rest.Getter         = powerREST{}
	_ rest.NamedCreater   = powerREST{}
	_ rest.TableConvertor = powerREST{}
)

func newPowerREST(r *Resource) powerREST {
	return powerREST{creater[*infrastructure.MachinePower]{
		bodyREST: bodyREST[*infrastructure.MachinePower]{r, "MachinePower", func() *infrastructure.MachinePower { return &infrastructure.MachinePower{} }},
		validate: validation.ValidatePower,
		authorize: func(ctx context.Context, u user.Info, t infrastructure.OperationTarget, body *infrastructure.MachinePower) error {
			if body.Spec.Action != infrastructure.PowerBootPXE {
				return nil
			}
			return r.Authorizer.AuthorizeReinstall(ctx, u, r.Resource, t.Namespace, t.Name)
		},
		operate: func(ctx context.Context, t infrastructure.OperationTarget, body *infrastructure.MachinePower) (*infrastructure.MachinePower, error) {
			return r.Operator.RequestPower(ctx, t, body.Spec)
		},
	}}
}

// Get implements rest.Getter.
func (r powerREST) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	return r.get(ctx, name, r.resource.Operator.PowerState)
}

// ConvertToTable implements rest.TableConvertor.
func (r powerREST) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	power, ok := object.(*infrastructure.MachinePower)
	if !ok {
		return nil, unexpectedType(object)
	}
	s := power.Status
	return table(options, []metav1.TableColumnDefinition{
		column("Name", "name", "Name of the machine or firewall."),
		column("State", "", "Whether the machine has power, as its controller reported last."),
		column("Observed", "date-time", "When the machine's controller reported it last."),
		column("BMC", "", "Firmware version of the machine's controller."),
		column("BIOS", "", "Version of the machine's firmware."),
	}, row{power, []any{power.Name, registry.OrNone(string(s.State)), timestamp(s.ObservedTime), registry.OrNone(s.BMCVersion), registry.OrNone(s.BIOSVersion)}})
}
