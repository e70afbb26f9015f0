package allocation

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Protocol allocates and releases. It is safe for concurrent use.
type Protocol struct {
	opts Options
}

// New returns a Protocol that does nothing until it is asked.
func New(opts Options) *Protocol { return &Protocol{opts: opts} }

// AllocateMachine turns a MetalStackMachine into a server.
func (p *Protocol) AllocateMachine(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackMachine, error) {
	return nil, nil
}

// AllocateFirewall turns a MetalStackFirewall into a server.
func (p *Protocol) AllocateFirewall(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackFirewall, error) {
	return nil, nil
}

// AllocateCluster allocates a MetalStackCluster's private network and address.
func (p *Protocol) AllocateCluster(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackCluster, error) {
	return nil, nil
}

// ReleaseMachine gives a MetalStackMachine's server back.
func (p *Protocol) ReleaseMachine(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackMachine, error) {
	return nil, nil
}

// ReleaseFirewall gives a MetalStackFirewall's server back.
func (p *Protocol) ReleaseFirewall(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackFirewall, error) {
	return nil, nil
}

// ReleaseCluster gives a MetalStackCluster's network and address back.
func (p *Protocol) ReleaseCluster(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	return nil, nil
}

// Shutdown begins no work any more, and waits until calls that are under way
// have ended, or ctx has.
func (p *Protocol) Shutdown(ctx context.Context) error { return nil }
