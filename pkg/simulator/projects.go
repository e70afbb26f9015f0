// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/blang/semver/v4"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// project is a project as masterdata has it. Entities are replaced, never changed.
type project struct {
	wire.Project
	// legacyQuota is the deprecated quota field that only masterdata's own
	// API sets (318): enforced, and not shown.
	legacyQuota *int32
}

func (s *Simulator) masterdataProject(c *call, id string) (*project, error) {
	if c.down(backendMasterdata) {
		return nil, errors.New(masterdataDown)
	}
	if c.gone() {
		return nil, grpcError(kindOther, "Canceled", "context canceled")
	}
	s.lock()
	defer s.unlock()
	return s.projectByID(id)
}

func (s *Simulator) projectByID(id string) (*project, error) {
	p, ok := s.projects[id]
	if !ok {
		return nil, grpcError(kindNotFound, "NotFound", "project with id:%s not found sql: no rows in result set", id)
	}
	return p, nil
}

func (s *Simulator) projectGet(c *call) (int, any, error) {
	p, err := s.masterdataProject(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	if c.down(backendRethinkDB) {
		return 0, nil, errors.New("cannot search ips in database: " + rethinkdbDown)
	}
	s.lock()
	defer s.unlock()
	id := c.param(0)
	var machines, ips int32
	for _, n := range s.order {
		if n.m != nil && n.m.alloc != nil && n.m.alloc.project == id {
			machines++
		}
	}
	for _, i := range s.ips {
		if i.project == id {
			ips++
		}
	}
	w := p.Project
	q := &wire.Quotas{Machine: &wire.Quota{}, IP: &wire.Quota{}}
	if w.Quotas != nil {
		if w.Quotas.Machine != nil {
			*q.Machine = *w.Quotas.Machine
		}
		if w.Quotas.IP != nil {
			*q.IP = *w.Quotas.IP
		}
		q.Cluster = w.Quotas.Cluster
	}
	q.Machine.Used, q.IP.Used = &machines, &ips
	w.Quotas = q
	return http.StatusOK, &w, nil
}

// projectFind answers null, not [], when nothing is found (docs/metal-api.md, Q8).
func (s *Simulator) projectFind(c *call) (int, any, error) {
	var q wire.ProjectFindRequest
	if c.name == "project-find" {
		var err error
		if q, err = decode[wire.ProjectFindRequest](c); err != nil {
			return 0, nil, err
		}
	}
	if c.down(backendMasterdata) {
		return 0, nil, errors.New(masterdataDown)
	}
	s.lock()
	defer s.unlock()
	var list []*wire.Project
	for _, id := range s.projIDs {
		p := s.projects[id]
		if is(q.ID, id) && is(q.Name, p.Name) && is(q.TenantID, p.TenantID) {
			list = append(list, &p.Project)
		}
	}
	return http.StatusOK, list, nil
}

func (s *Simulator) projectCreate(c *call) (int, any, error) {
	req, err := decode[wire.Project](c)
	if err != nil {
		return 0, nil, err
	}
	if req.TenantID == "" {
		return 0, nil, badRequest(errors.New("no tenant given"))
	}
	if c.down(backendMasterdata) {
		return 0, nil, errors.New(masterdataDown)
	}
	s.lock()
	defer s.unlock()
	if _, ok := s.tenants[req.TenantID]; !ok {
		return 0, nil, grpcError(kindNotFound, "NotFound", "unable to find tenant:%s for project", req.TenantID)
	}
	meta := &wire.Meta{}
	if req.Meta != nil {
		meta = req.Meta
	}
	if _, taken := s.projects[meta.ID]; taken {
		return 0, nil, grpcError(kindConflict, "AlreadyExists", "an entity of type:project with the id:%s already exists", meta.ID)
	}
	p := s.addProject(meta, req)
	return http.StatusCreated, &p.Project, nil
}

func (s *Simulator) addProject(meta *wire.Meta, req wire.Project) *project {
	id := meta.ID
	if id == "" {
		id = s.newUUID()
	}
	now := s.instant()
	p := &project{Project: req}
	p.Meta = &wire.Meta{ID: id, Kind: "Project", APIVersion: "v1", CreatedTime: &now, Annotations: meta.Annotations, Labels: meta.Labels}
	p.Quotas = storedQuotas(req.Quotas)
	s.projects[id] = p
	s.projIDs = append(s.projIDs, id)
	return p
}

// storedQuotas drops what a GET added: of a quota only the limit is stored,
// of one without a limit an empty object (068, 069).
func storedQuotas(q *wire.Quotas) *wire.Quotas {
	if q == nil {
		return nil
	}
	limit := func(q *wire.Quota) *wire.Quota {
		if q == nil {
			return nil
		}
		return &wire.Quota{Quota: q.Quota}
	}
	return &wire.Quotas{Cluster: limit(q.Cluster), Machine: limit(q.Machine), IP: limit(q.IP)}
}

// projectUpdate is masterdata's update: it replaces everything, refuses lower
// versions and takes equal and higher ones. It is no compare-and-swap: between
// the test of the version and the write another update gets through (docs/metal-api.md, Q59).
func (s *Simulator) projectUpdate(c *call) (int, any, error) {
	req, err := decode[wire.Project](c)
	if err != nil {
		return 0, nil, err
	}
	if req.Meta == nil {
		return 0, nil, badRequest(errors.New("project and project.meta must be specified"))
	}
	old, err := s.masterdataProject(c, req.Meta.ID)
	if err != nil {
		return 0, nil, err
	}
	if req.TenantID != old.TenantID {
		return 0, nil, grpcError(kindOther, "InvalidArgument", "update tenant of project:%s is not allowed", req.Meta.ID)
	}
	if req.Meta.Version < old.Meta.Version {
		return 0, nil, grpcError(kindOther, "FailedPrecondition",
			"optimistic lock error updating project with id %s, existing version %d mismatches entity version %d", req.Meta.ID, old.Meta.Version, req.Meta.Version)
	}
	c.spend(flatCost(c.name))
	s.lock()
	defer s.unlock()
	now := s.instant()
	p := &project{Project: req}
	p.Meta = &wire.Meta{
		ID: req.Meta.ID, Kind: "Project", APIVersion: "v1", Version: req.Meta.Version + 1,
		CreatedTime: old.Meta.CreatedTime, UpdatedTime: &now, Annotations: req.Meta.Annotations, Labels: req.Meta.Labels,
	}
	p.Quotas = storedQuotas(req.Quotas)
	s.projects[req.Meta.ID] = p
	return http.StatusOK, &p.Project, nil
}

func (s *Simulator) projectDelete(c *call) (int, any, error) {
	id := c.param(0)
	if _, err := s.masterdataProject(c, id); err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	for _, n := range s.order {
		if n.m != nil && n.m.alloc != nil && n.m.alloc.project == id {
			return 0, nil, badRequest(errors.New("there are still machines allocated by this project"))
		}
	}
	for _, n := range s.networks {
		if n.project == id {
			return 0, nil, badRequest(errors.New("there are still networks allocated by this project"))
		}
	}
	for _, i := range s.ips {
		if i.project == id {
			return 0, nil, badRequest(errors.New("there are still ips allocated by this project"))
		}
	}
	for _, r := range s.cat.reservations {
		if r.ProjectID == id {
			return 0, nil, badRequest(errors.New("there are still size reservations made by this project"))
		}
	}
	delete(s.projects, id)
	s.projIDs = slices.DeleteFunc(s.projIDs, func(o string) bool { return o == id })
	return http.StatusOK, &wire.Project{Meta: &wire.Meta{ID: id}}, nil
}

// machineQuota is the enforced machine quota of a project. Up to v0.43.3 any
// stored quota object counts, and one without the deprecated field is a quota
// of none; later only the deprecated field itself counts, which REST does not
// set (303-325 of both versions).
func (s *Simulator) machineQuota(p *project) (int, bool) {
	if p.legacyQuota != nil {
		return int(*p.legacyQuota), true
	}
	if s.emptyQuotaIsNone() && p.Quotas != nil && p.Quotas.Machine != nil {
		return 0, true
	}
	return 0, false
}

func (s *Simulator) emptyQuotaIsNone() bool {
	v, err := semver.ParseTolerant(s.cfg.Version)
	return err == nil && v.LE(semver.MustParse("0.43.3"))
}

// SetLegacyQuota sets the machine quota of a project through masterdata's own
// API (318-325): the metal-api enforces it, counting firewalls only, and does
// not show it. It counts as an update of the project.
func (s *Simulator) SetLegacyQuota(projectID string, machines int32) error {
	s.lock()
	defer s.unlock()
	old, err := s.projectByID(projectID)
	if err != nil {
		return err
	}
	next := *old
	meta := *old.Meta
	now := s.instant()
	meta.Version++
	meta.UpdatedTime = &now
	next.Meta, next.legacyQuota = &meta, &machines
	s.projects[projectID] = &next
	return nil
}

func (s *Simulator) tenantList(c *call) (int, any, error) {
	var q wire.TenantFindRequest
	if c.name == "tenant-find" {
		var err error
		if q, err = decode[wire.TenantFindRequest](c); err != nil {
			return 0, nil, err
		}
	}
	if c.down(backendMasterdata) {
		return 0, nil, errors.New(masterdataDown)
	}
	s.lock()
	defer s.unlock()
	var list []*wire.Tenant // null when nothing is found, as with projects
	for _, id := range s.tenIDs {
		if t := s.tenants[id]; is(q.ID, id) && is(q.Name, t.Name) {
			list = append(list, t)
		}
	}
	return http.StatusOK, list, nil
}

func (s *Simulator) tenantGet(c *call) (int, any, error) {
	if c.down(backendMasterdata) {
		return 0, nil, errors.New(masterdataDown)
	}
	s.lock()
	defer s.unlock()
	t, ok := s.tenants[c.param(0)]
	if !ok {
		return 0, nil, grpcError(kindNotFound, "NotFound", "tenant with id:%s not found sql: no rows in result set", c.param(0))
	}
	return http.StatusOK, t, nil
}

func (s *Simulator) addTenant(t Tenant, at time.Time) {
	s.tenants[t.ID] = &wire.Tenant{
		Meta: &wire.Meta{ID: t.ID, Kind: "Tenant", APIVersion: "v1", CreatedTime: &at},
		Name: t.Name, Description: t.Description,
	}
	s.tenIDs = append(s.tenIDs, t.ID)
}
