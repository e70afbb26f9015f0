// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"

	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/models"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// IP gets an address.
func (c *Client) IP(ctx context.Context, address string) (*metal.IP, error) {
	answer, err := c.api.IP.FindIP(ip.NewFindIPParamsWithContext(ctx).WithID(address), nil)
	if err != nil {
		return nil, err
	}
	return toFact("findIP", answer.Payload, ipFact)
}

// FindIPs returns the addresses that match.
func (c *Client) FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error) {
	body := &models.V1IPFindRequest{
		Ipaddress: q.Address,
		Name:      q.Name,
		Projectid: q.Project,
		Networkid: q.Network,
		Machineid: q.Machine,
		Type:      q.Type,
		Tags:      q.Tags,
	}
	answer, err := c.api.IP.FindIPs(ip.NewFindIPsParamsWithContext(ctx).WithBody(body), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("findIPs", answer.Payload, ipFact)
}

// AllocateIP allocates a certain address or any of a network. It never ends
// with ctx.
func (c *Client) AllocateIP(ctx context.Context, r metal.IPRequest) (*metal.IP, error) {
	kind := cmp.Or(r.Type, metal.TypeEphemeral)
	body := &models.V1IPAllocateRequest{
		Projectid:     &r.Project,
		Networkid:     &r.Network,
		Name:          r.Name,
		Description:   r.Description,
		Type:          &kind,
		Tags:          r.Tags,
		Addressfamily: r.AddressFamily,
	}
	return write(ctx, c, "ip allocate", func(ctx context.Context) (*metal.IP, error) {
		payload, err := c.allocateIP(ctx, r.Address, body)
		if err != nil {
			return nil, err
		}
		i, err := toFact("allocateIP", payload, ipFact)
		if err == nil {
			c.notify(func(l metal.WriteListener) { l.LearnIP(i) })
		}
		return i, err
	})
}

func (c *Client) allocateIP(ctx context.Context, address string, body *models.V1IPAllocateRequest) (*models.V1IPResponse, error) {
	if address == "" {
		answer, err := c.api.IP.AllocateIP(ip.NewAllocateIPParamsWithContext(ctx).WithBody(body), nil)
		if err != nil {
			return nil, err
		}
		return answer.Payload, nil
	}
	answer, err := c.api.IP.AllocateSpecificIP(ip.NewAllocateSpecificIPParamsWithContext(ctx).WithIP(address).WithBody(body), nil)
	if err != nil {
		return nil, err
	}
	return answer.Payload, nil
}

// FreeIP frees an address. It never ends with ctx.
func (c *Client) FreeIP(ctx context.Context, address string) (*metal.IP, error) {
	return write(ctx, c, "ip free", func(ctx context.Context) (*metal.IP, error) {
		answer, err := c.api.IP.FreeIP(ip.NewFreeIPParamsWithContext(ctx).WithID(address), nil)
		if err != nil {
			return nil, err
		}
		i, err := toFact("freeIP", answer.Payload, ipFact)
		if err == nil {
			c.notify(func(l metal.WriteListener) { l.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: address}) })
		}
		return i, err
	})
}

// SetIPTags replaces all tags of an address, and nothing else of it. It never ends
// with ctx.
func (c *Client) SetIPTags(ctx context.Context, address string, tags []string) (*metal.IP, error) {
	if tags == nil {
		tags = []string{} // null would change nothing.
	}
	return write(ctx, c, "ip update", func(ctx context.Context) (*metal.IP, error) {
		answer, err := c.api.IP.UpdateIP(ip.NewUpdateIPParamsWithContext(ctx).WithBody(&models.V1IPUpdateRequest{Ipaddress: &address, Tags: tags}), nil)
		if err != nil {
			return nil, err
		}
		i, err := toFact("updateIP", answer.Payload, ipFact)
		if err == nil {
			c.notify(func(l metal.WriteListener) { l.LearnIP(i) })
		}
		return i, err
	})
}
