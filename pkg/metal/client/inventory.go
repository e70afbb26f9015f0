// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/metal-stack/metal-go/api/client/filesystemlayout"
	"github.com/metal-stack/metal-go/api/client/image"
	"github.com/metal-stack/metal-go/api/client/partition"
	"github.com/metal-stack/metal-go/api/client/project"
	"github.com/metal-stack/metal-go/api/client/size"
	"github.com/metal-stack/metal-go/api/client/sizeimageconstraint"

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

// ListProjects returns the projects, without what is used of their quotas.
func (c *Client) ListProjects(ctx context.Context) ([]*metal.Project, error) {
	answer, err := c.api.Project.ListProjects(project.NewListProjectsParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listProjects", answer.Payload, projectFact)
}

// Project gets a project with what is used of its quotas.
func (c *Client) Project(ctx context.Context, id string) (*metal.Project, error) {
	answer, err := c.api.Project.FindProject(project.NewFindProjectParamsWithContext(ctx).WithID(id), nil)
	if err != nil {
		return nil, err
	}
	return toFact("findProject", answer.Payload, usedProjectFact)
}

// ListReservations returns the machines that are reserved for projects.
func (c *Client) ListReservations(ctx context.Context) ([]*metal.Reservation, error) {
	answer, err := c.api.Size.ListSizeReservations(size.NewListSizeReservationsParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listSizeReservations", answer.Payload, reservationFact)
}

// ListSizeImageConstraints returns which images sizes are restricted to.
func (c *Client) ListSizeImageConstraints(ctx context.Context) ([]*metal.SizeImageConstraint, error) {
	answer, err := c.api.Sizeimageconstraint.ListSizeImageConstraints(sizeimageconstraint.NewListSizeImageConstraintsParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listSizeImageConstraints", answer.Payload, sizeImageConstraintFact)
}

// ListLayouts returns the layouts of disks.
func (c *Client) ListLayouts(ctx context.Context) ([]*metal.FilesystemLayout, error) {
	answer, err := c.api.Filesystemlayout.ListFilesystemLayouts(filesystemlayout.NewListFilesystemLayoutsParamsWithContext(ctx), nil)
	if err != nil {
		return nil, err
	}
	return toFacts("listFilesystemLayouts", answer.Payload, layoutFact)
}
