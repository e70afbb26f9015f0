// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// What operators of metal-stack do with what can be asked for.

// ReserveSize reserves machines of a size for a project in a partition and returns the reservation's
// id.
func (s *Simulator) ReserveSize(project, size, partition string, amount int) (id string, err error) {
	_, answer, err := s.reservationCreate(s.inside("size-reservation-create", wire.SizeReservation{
		ProjectID: project, SizeID: size, PartitionIDs: []string{partition}, Amount: amount,
	}))
	if err != nil {
		return "", err
	}
	return answer.(*wire.SizeReservation).ID, nil
}

// EndReservation deletes a reservation.
func (s *Simulator) EndReservation(id string) error {
	_, _, err := s.reservationDelete(s.inside("size-reservation-delete", nil, id))
	return err
}

// ConstrainImages restricts machines of a size to versions of images, by operating system, such as
// `>= 24.04.20260101`; nil ends it.
func (s *Simulator) ConstrainImages(size string, images map[string]string) error {
	s.lock()
	constrained := s.cat.constraint(size) != nil
	s.unlock()
	if constrained {
		if _, _, err := s.constraintDelete(s.inside("size-image-constraint-delete", nil, size)); err != nil {
			return err
		}
	}
	if images == nil {
		return nil
	}
	_, _, err := s.constraintCreate(s.inside("size-image-constraint-create", wire.SizeImageConstraint{
		ID: size, Constraints: wire.ImageConstraints{Images: images},
	}))
	return err
}

// SetQuota sets the quotas that a project shows; nil: none. From v0.44 on, the metal-api does not
// enforce them (SetLegacyQuota).
func (s *Simulator) SetQuota(projectID string, machines, addresses *int32) error {
	s.lock()
	defer s.unlock()
	old, err := s.projectByID(projectID)
	if err != nil {
		return err
	}
	next, meta, now := *old, *old.Meta, s.instant()
	meta.Version++
	meta.UpdatedTime = &now
	next.Meta, next.Quotas = &meta, nil
	limit := func(n *int32) *wire.Quota {
		if n == nil {
			return nil
		}
		return &wire.Quota{Quota: n}
	}
	if machines != nil || addresses != nil {
		next.Quotas = &wire.Quotas{Machine: limit(machines), IP: limit(addresses)}
	}
	s.projects[projectID] = &next
	return nil
}

// ExpireImage sets when an image expires, which keeps it from nothing.
func (s *Simulator) ExpireImage(id string, at time.Time) error {
	s.lock()
	defer s.unlock()
	image, ok := s.cat.images[id]
	if !ok {
		return fmt.Errorf("no image %q", id)
	}
	changed := *image
	changed.ExpirationDate, changed.Changed = stored(at), stored(s.instant())
	next := s.cat.copy()
	next.images[id] = &changed
	s.cat = next
	return nil
}

// RemoveImage deletes an image that no machine uses.
func (s *Simulator) RemoveImage(id string) error {
	_, _, err := s.imageDelete(s.inside("image-delete", nil, id))
	return err
}

// AddSize makes another size known.
func (s *Simulator) AddSize(z Size) {
	s.lock()
	defer s.unlock()
	s.cat = s.cat.copy()
	s.buildSize(z)
}

// AddPartition makes another partition known, without networks.
func (s *Simulator) AddPartition(p Partition) {
	s.lock()
	defer s.unlock()
	s.cat = s.cat.copy()
	s.buildPartition(p)
}

// AddProject makes another project of a tenant known.
func (s *Simulator) AddProject(p Project) {
	s.lock()
	defer s.unlock()
	s.buildProject(p)
}
