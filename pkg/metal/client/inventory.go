package client

import (
	"context"

	"github.com/metal-stack/metal-go/api/client/image"
	"github.com/metal-stack/metal-go/api/client/partition"
	"github.com/metal-stack/metal-go/api/client/project"
	"github.com/metal-stack/metal-go/api/client/size"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ListSizes returns the kinds of machines.
func (c *Client) ListSizes(ctx context.Context) ([]*metal.Size, error) {
	answer, err := c.api.Size.ListSizes(size.NewListSizesParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return many("listSizes", answer.Payload, sizeFact)
}

// ListImages returns the images, expired ones included.
func (c *Client) ListImages(ctx context.Context) ([]*metal.Image, error) {
	answer, err := c.api.Image.ListImages(image.NewListImagesParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return many("listImages", answer.Payload, imageFact)
}

// ListPartitions returns the partitions.
func (c *Client) ListPartitions(ctx context.Context) ([]*metal.Partition, error) {
	answer, err := c.api.Partition.ListPartitions(partition.NewListPartitionsParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return many("listPartitions", answer.Payload, partitionFact)
}

// Project gets a project by id.
func (c *Client) Project(ctx context.Context, id string) (*metal.Project, error) {
	answer, err := c.api.Project.FindProject(project.NewFindProjectParamsWithContext(ctx).WithID(id), nil)
	if err != nil {
		return nil, err
	}
	return one("findProject", answer.Payload, projectFact)
}
