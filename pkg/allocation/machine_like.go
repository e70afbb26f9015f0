package allocation

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// The resources that hold metal.
var (
	machineResource  = infrastructure.SchemeGroupVersion.WithResource("metalstackmachines").GroupResource()
	firewallResource = infrastructure.SchemeGroupVersion.WithResource("metalstackfirewalls").GroupResource()
	clusterResource  = infrastructure.SchemeGroupVersion.WithResource("metalstackclusters").GroupResource()
)

// objectRef is an object whose metal is worked on.
type objectRef struct {
	resource        schema.GroupResource
	namespace, name string
}

func (s objectRef) String() string { return s.resource.Resource + "/" + s.namespace + "/" + s.name }

// machineLike is what machines and firewalls have in common. Pointers point into
// the object.
type machineLike struct {
	object      runtime.Object
	meta        *metav1.ObjectMeta
	providerID  *string
	image       string
	machineType string
	partition   string
	sshKeys     []string
	tags        []string
	networks    []string
	rules       *infrastructure.FirewallRules
	status      *infrastructure.MetalStackMachineStatus
}

// allocation is never nil.
func (s *machineLike) allocation() *infrastructure.MachineAllocation {
	if s.status.Allocation == nil {
		return &infrastructure.MachineAllocation{}
	}
	return s.status.Allocation
}

// identityUID is the uid that its metal carries.
func (s *machineLike) identityUID() types.UID {
	if uid := s.allocation().UID; uid != "" {
		return uid
	}
	return s.meta.UID
}

func machineLikeOfMachine(m *infrastructure.MetalStackMachine) *machineLike {
	return &machineLike{
		object: m, meta: &m.ObjectMeta, providerID: &m.Spec.ProviderID,
		image: m.Spec.Image, machineType: m.Spec.MachineType, partition: m.Spec.Partition,
		sshKeys: m.Spec.SSHKeys, tags: m.Spec.Tags, networks: m.Spec.Networks,
		status: &m.Status,
	}
}

func machineLikeOfFirewall(f *infrastructure.MetalStackFirewall) *machineLike {
	return &machineLike{
		object: f, meta: &f.ObjectMeta, providerID: &f.Spec.ProviderID,
		image: f.Spec.Image, machineType: f.Spec.MachineType, partition: f.Spec.Partition,
		sshKeys: f.Spec.SSHKeys, networks: f.Spec.Networks, rules: f.Spec.Rules,
		status: (*infrastructure.MetalStackMachineStatus)(&f.Status),
	}
}

// machineLikeRecords are the records of machines or of firewalls.
type machineLikeRecords interface {
	resource() schema.GroupResource
	kind() string
	role() string
	get(ctx context.Context, namespace, name string) (*machineLike, error)
	update(ctx context.Context, namespace, name string, change func(*machineLike) error) (*machineLike, error)
	list(ctx context.Context) ([]*machineLike, error)
}

// machineLikeAdapter makes servers of Records.
type machineLikeAdapter[T runtime.Object] struct {
	records  Records[T]
	view     func(T) *machineLike
	of       schema.GroupResource
	kindName string
	roleName string
}

func machineRecords(r Records[*infrastructure.MetalStackMachine]) machineLikeRecords {
	return machineLikeAdapter[*infrastructure.MetalStackMachine]{r, machineLikeOfMachine, machineResource, "MetalStackMachine", metal.RoleMachine}
}

func firewallRecords(r Records[*infrastructure.MetalStackFirewall]) machineLikeRecords {
	return machineLikeAdapter[*infrastructure.MetalStackFirewall]{r, machineLikeOfFirewall, firewallResource, "MetalStackFirewall", metal.RoleFirewall}
}

func (r machineLikeAdapter[T]) resource() schema.GroupResource { return r.of }
func (r machineLikeAdapter[T]) kind() string                   { return r.kindName }
func (r machineLikeAdapter[T]) role() string                   { return r.roleName }

func (r machineLikeAdapter[T]) get(ctx context.Context, namespace, name string) (*machineLike, error) {
	obj, err := r.records.Get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return r.view(obj), nil
}

func (r machineLikeAdapter[T]) update(ctx context.Context, namespace, name string, change func(*machineLike) error) (*machineLike, error) {
	obj, err := r.records.Update(ctx, namespace, name, func(obj T) error { return change(r.view(obj)) })
	if err != nil {
		return nil, err
	}
	return r.view(obj), nil
}

func (r machineLikeAdapter[T]) list(ctx context.Context) ([]*machineLike, error) {
	objs, err := r.records.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*machineLike, 0, len(objs))
	for _, obj := range objs {
		all = append(all, r.view(obj))
	}
	return all, nil
}
