// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"net/http"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) reservationList(c *call) (int, any, error) {
	var q wire.SizeReservationFindRequest
	if c.name == "size-reservation-find" {
		var err error
		if q, err = decode[wire.SizeReservationFindRequest](c); err != nil {
			return 0, nil, err
		}
	}
	return many(s, c, "sizereservations", func(k *catalogue) []*wire.SizeReservation {
		l := []*wire.SizeReservation{}
		for _, r := range k.reservations {
			if is(q.ID, r.ID) && is(q.SizeID, r.SizeID) && is(q.ProjectID, r.ProjectID) &&
				(q.Partition == nil || slices.Contains(r.PartitionIDs, *q.Partition)) {
				l = append(l, r)
			}
		}
		return l
	})
}

func (s *Simulator) reservationGet(c *call) (int, any, error) {
	return one(s, c, "sizereservation", func(k *catalogue) map[string]*wire.SizeReservation {
		m := map[string]*wire.SizeReservation{}
		for _, r := range k.reservations {
			m[r.ID] = r
		}
		return m
	})
}

// reservationUsage answers null, not [], when there is none (docs/metal-api.md, Q8).
func (s *Simulator) reservationUsage(c *call) (int, any, error) {
	q, err := decode[wire.SizeReservationFindRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	if c.down(backendRethinkDB) {
		return 0, nil, errors.New("cannot list sizereservations from database: " + rethinkdbDown)
	}
	var list []*wire.SizeReservationUsage
	for _, r := range s.cat.reservations {
		if !is(q.ID, r.ID) || !is(q.SizeID, r.SizeID) || !is(q.ProjectID, r.ProjectID) {
			continue
		}
		for _, partition := range r.PartitionIDs {
			if !is(q.Partition, partition) {
				continue
			}
			allocated := 0
			for _, n := range s.order {
				if m := n.m; m != nil && m.alloc != nil && m.alloc.project == r.ProjectID && m.partition == partition && m.size == r.SizeID {
					allocated++
				}
			}
			list = append(list, &wire.SizeReservationUsage{
				ID: r.ID, Name: r.Name, Description: r.Description, SizeID: r.SizeID, PartitionID: partition, ProjectID: r.ProjectID,
				Amount: r.Amount, UsedAmount: min(allocated, r.Amount), ProjectAllocations: allocated, Labels: r.Labels,
			})
		}
	}
	return http.StatusOK, list, nil
}

func (s *Simulator) reservationCreate(c *call) (int, any, error) {
	r, err := decode[wire.SizeReservation](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	if r.ID == "" {
		r.ID = s.newUUID()
	}
	if err := s.checkReservation(&r); err != nil {
		return 0, nil, err
	}
	if slices.ContainsFunc(s.cat.reservations, func(o *wire.SizeReservation) bool { return o.ID == r.ID }) {
		return 0, nil, conflict("cannot create sizereservation in database, entity already exists: %s", r.ID)
	}
	r.Created = s.instant()
	r.Changed = r.Created
	s.storeReservation(-1, r)
	return http.StatusCreated, &r, nil
}

// reservationUpdate changes what is given; of partitions an empty list changes nothing, of labels
// an empty map clears (2/366-372).
func (s *Simulator) reservationUpdate(c *call) (int, any, error) {
	req, err := decode[wire.SizeReservationUpdateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	i, err := s.reservation(req.ID)
	if err != nil {
		return 0, nil, err
	}
	r := *s.cat.reservations[i]
	if req.Name != nil {
		r.Name = *req.Name
	}
	if req.Description != nil {
		r.Description = *req.Description
	}
	if req.Amount != nil {
		r.Amount = *req.Amount
	}
	if len(req.PartitionIDs) > 0 {
		r.PartitionIDs = req.PartitionIDs
	}
	if req.Labels != nil {
		r.Labels = req.Labels
	}
	if err := s.checkReservation(&r); err != nil {
		return 0, nil, err
	}
	r.Changed = s.instant()
	s.storeReservation(i, r)
	return http.StatusOK, &r, nil
}

// checkReservation checks what a reservation names (2/341-347).
func (s *Simulator) checkReservation(r *wire.SizeReservation) error {
	if _, ok := s.cat.sizes[r.SizeID]; !ok {
		return notFound("no size with id %q found", r.SizeID)
	}
	if _, err := s.projectByID(r.ProjectID); err != nil {
		return err
	}
	if r.Amount <= 0 {
		return badRequest(errors.New("amount must be a positive integer"))
	}
	if len(r.PartitionIDs) == 0 {
		return badRequest(errors.New("at least one partition id must be specified"))
	}
	for i, id := range r.PartitionIDs {
		if _, ok := s.cat.partitions[id]; !ok {
			return badRequest(errors.New("partition must exist before creating a size reservation"))
		}
		if slices.Contains(r.PartitionIDs[:i], id) {
			return badRequest(errors.New("partitions must not contain duplicates"))
		}
	}
	return nil
}

// storeReservation stores the ith reservation; -1: a new one.
func (s *Simulator) storeReservation(i int, r wire.SizeReservation) {
	r.Created, r.Changed = stored(r.Created), stored(r.Changed)
	next := s.cat.copy()
	if i < 0 {
		next.reservations = append(next.reservations, &r)
	} else {
		next.reservations[i] = &r
	}
	s.cat = next
}

func (s *Simulator) reservation(id string) (i int, err error) {
	i = slices.IndexFunc(s.cat.reservations, func(r *wire.SizeReservation) bool { return r.ID == id })
	if i < 0 {
		return i, notFound("no sizereservation with id %q found", id)
	}
	return i, nil
}

func (s *Simulator) reservationDelete(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	i, err := s.reservation(c.param(0))
	if err != nil {
		return 0, nil, err
	}
	r := s.cat.reservations[i]
	next := s.cat.copy()
	next.reservations = slices.Delete(next.reservations, i, i+1)
	s.cat = next
	return http.StatusOK, r, nil
}
