// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/metal-stack/metal-go/api/client/image"
	"github.com/metal-stack/metal-go/api/client/partition"
	"github.com/metal-stack/metal-go/api/client/size"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ListSizes returns the kinds of machines.
func (c *Client) ListSizes(ctx context.Context) ([]*metal.Size, error) {
	answer, err := c.api.Size.ListSizes(size.NewListSizesParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listSizes", answer.Payload, sizeFact)
}

// ListImages returns the images, expired ones included.
func (c *Client) ListImages(ctx context.Context) ([]*metal.Image, error) {
	answer, err := c.api.Image.ListImages(image.NewListImagesParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listImages", answer.Payload, imageFact)
}

// ListPartitions returns the partitions.
func (c *Client) ListPartitions(ctx context.Context) ([]*metal.Partition, error) {
	answer, err := c.api.Partition.ListPartitions(partition.NewListPartitionsParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listPartitions", answer.Payload, partitionFact)
}
