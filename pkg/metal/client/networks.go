// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/go-openapi/runtime"
	"github.com/go-openapi/strfmt"
	"github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/models"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Network gets a network by id.
func (c *Client) Network(ctx context.Context, id string) (*metal.Network, error) {
	answer, err := c.api.Network.FindNetwork(network.NewFindNetworkParamsWithContext(ctx).WithID(id), nil)
	if err != nil {
		return nil, err
	}
	return toFact("findNetwork", answer.Payload, networkFact)
}

// FindNetworks returns the networks that match: 1.6 ms each. One network that
// was freed halfway makes every find fail that would hit it (docs/metal-api.md, Q50).
func (c *Client) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	body := &models.V1NetworkFindRequest{
		ID:              q.ID,
		Name:            q.Name,
		Projectid:       q.Project,
		Partitionid:     q.Partition,
		Parentnetworkid: q.Parent,
		Privatesuper:    q.PrivateSuper,
		Labels:          q.Labels,
	}
	var opts []network.ClientOption
	if q.NoProject {
		opts = append(opts, withBody(struct {
			*models.V1NetworkFindRequest
			Projectid string `json:"projectid"`
		}{V1NetworkFindRequest: body}))
	}
	answer, err := c.api.Network.FindNetworks(network.NewFindNetworksParamsWithContext(ctx).WithBody(body), nil, opts...)
	if err != nil {
		return nil, err
	}
	return toFacts("findNetworks", answer.Payload, networkFact)
}

// withBody sends a body with members that the model of a request leaves out when they are empty.
func withBody(body any) network.ClientOption {
	return func(op *runtime.ClientOperation) {
		params := op.Params
		op.Params = runtime.ClientRequestWriterFunc(func(r runtime.ClientRequest, formats strfmt.Registry) error {
			if err := params.WriteToRequest(r, formats); err != nil {
				return err
			}
			return r.SetBodyParam(body)
		})
	}
}

// ListNetworks returns all networks.
func (c *Client) ListNetworks(ctx context.Context) ([]*metal.Network, error) {
	answer, err := c.api.Network.ListNetworks(network.NewListNetworksParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listNetworks", answer.Payload, networkFact)
}

// AllocateNetwork allocates a private network. It never ends with ctx.
func (c *Client) AllocateNetwork(ctx context.Context, r metal.NetworkRequest) (*metal.Network, error) {
	body := &models.V1NetworkAllocateRequest{
		Projectid:     r.Project,
		Partitionid:   r.Partition,
		Name:          r.Name,
		Description:   r.Description,
		Labels:        r.Labels,
		Length:        r.Lengths,
		Addressfamily: r.AddressFamily,
	}
	return write(ctx, c, "network allocate", func(ctx context.Context) (*metal.Network, error) {
		answer, err := c.api.Network.AllocateNetwork(network.NewAllocateNetworkParamsWithContext(ctx).WithBody(body), nil)
		if err != nil {
			return nil, err
		}
		n, err := toFact("allocateNetwork", answer.Payload, networkFact)
		if err == nil {
			c.notify(func(l metal.WriteListener) { l.LearnNetwork(n) })
		}
		return n, err
	})
}

// FreeNetwork frees a private network. Make sure that it has no addresses
// left: a dual-stack network that is freed too early is wrecked for good, and
// with it every list that would show it (docs/metal-api.md, Q50). It never ends with ctx.
func (c *Client) FreeNetwork(ctx context.Context, id string) (*metal.Network, error) {
	return write(ctx, c, "network free", func(ctx context.Context) (*metal.Network, error) {
		answer, err := c.api.Network.FreeNetwork(network.NewFreeNetworkParamsWithContext(ctx).WithID(id), nil)
		if err != nil {
			return nil, err
		}
		n, err := toFact("freeNetwork", answer.Payload, networkFact)
		if err == nil {
			c.notify(func(l metal.WriteListener) { l.LearnFreed(metal.Ref{Kind: metal.KindNetwork, ID: id}) })
		}
		return n, err
	})
}
