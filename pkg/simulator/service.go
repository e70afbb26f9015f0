// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"net/http"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) versionGet(c *call) (int, any, error) {
	v := s.cfg.Version
	if v == "" {
		v = "v0.44.1"
	}
	return http.StatusOK, &wire.Version{Name: "metal-api", Version: v, Revision: "simulated", GitSHA1: "00000000", MinClientVersion: "v0.0.1"}, nil
}

// healthGet answers 500 when a backend is down; nsq is not asked (372, 381, 390, 400).
func (s *Simulator) healthGet(c *call) (int, any, error) {
	h := &wire.Health{Status: "healthy", Services: map[string]wire.ServiceHealth{
		"ipam":           {Status: "healthy", Message: `connected to ipam service version:""`},
		"masterdata-api": {Status: "healthy", Message: "connected to masterdata-api service version: version not set, please build your app with appropriate ldflags, see https://github.com/metal-stack/v for reference rev: "},
		"rethinkdb":      {Status: "healthy", Message: "connected to rethinkdb version: rethinkdb 2.4.4 (x86_64-linux-gnu) (GCC 12.2.0)"},
	}}
	status := http.StatusOK
	for backend, service := range map[string][2]string{
		backendIPAM:       {"ipam", ipamDown},
		backendMasterdata: {"masterdata-api", masterdataDown},
		backendRethinkDB:  {"rethinkdb", rethinkdbDown},
	} {
		if c.down(backend) {
			status = http.StatusInternalServerError
			h.Status, h.Message = "partial-outage", service[1]
			h.Services[service[0]] = wire.ServiceHealth{Status: "unhealthy", Message: service[1]}
		}
	}
	return status, h, nil
}

func (s *Simulator) userMe(c *call) (int, any, error) {
	return http.StatusOK, &wire.User{EMail: c.user.email, Name: c.user.name, Groups: c.user.groups, Tenant: c.user.tenant}, nil
}

// partitionCapacity counts machines by size (024, 169).
func (s *Simulator) partitionCapacity(c *call) (int, any, error) {
	q, err := decode[wire.PartitionCapacityRequest](c)
	if err != nil {
		return 0, nil, err
	}
	c.spend(costFindBase + timesN(costFindPerMachine, s.Machines()))
	s.lock()
	defer s.unlock()
	if q.ID != nil {
		if _, ok := s.cat.partitions[*q.ID]; !ok {
			return 0, nil, badRequest(notFound("no partition with id %q found", *q.ID))
		}
	}
	caps := map[string]map[string]*wire.ServerCapacity{}
	owners := map[string]int{} // machines by project, partition and size
	for _, n := range s.order {
		m := n.m
		if m == nil || n.ec == nil || m.partition == "" || !is(q.ID, m.partition) || !is(q.Size, m.size) {
			continue
		}
		if caps[m.partition] == nil {
			caps[m.partition] = map[string]*wire.ServerCapacity{}
		}
		// One that has no size yet is counted as one of the size unknown (2/146).
		size := or(m.size, "unknown")
		k := caps[m.partition][size]
		if k == nil {
			k = &wire.ServerCapacity{Size: size}
			caps[m.partition][size] = k
		}
		s.countMachine(k, n)
		if m.alloc != nil {
			owners[m.alloc.project+"/"+m.partition+"/"+m.size]++
		}
	}
	list := []*wire.PartitionCapacity{}
	for _, id := range s.cat.partitionIDs {
		if caps[id] == nil {
			continue
		}
		p := s.cat.partitions[id]
		pc := &wire.PartitionCapacity{ID: id, Name: p.Name, Description: p.Description}
		for _, k := range caps[id] {
			s.countReservations(k, id, q.Project, owners)
			pc.Servers = append(pc.Servers, k)
		}
		slices.SortFunc(pc.Servers, func(a, b *wire.ServerCapacity) int { return compare(a.Size, b.Size) })
		list = append(list, pc)
	}
	return http.StatusOK, list, nil
}

func (s *Simulator) countMachine(k *wire.ServerCapacity, n *node) {
	k.Total++
	switch {
	case n.m.alloc != nil:
		k.Allocated++
	case n.m.waiting && !n.m.preallocated && n.m.state.Value == "" && n.ec.liveliness == livelinessAlive:
		k.Allocatable++
		k.Free++
	default:
		k.Unavailable++
	}
	switch n.ec.newest() {
	case eventPhonedHome:
		k.PhonedHome++
	case eventWaiting:
		k.Waiting++
	default:
		k.Other++
		k.OtherMachines = append(k.OtherMachines, n.m.id)
	}
	if issues := s.issuesOf(n, 0); len(issues) > 0 {
		k.Faulty++
		k.FaultyMachines = append(k.FaultyMachines, n.m.id)
	}
}

func (s *Simulator) countReservations(k *wire.ServerCapacity, partition string, asking *string, owners map[string]int) {
	for _, r := range s.cat.reservations {
		if r.SizeID != k.Size || !slices.Contains(r.PartitionIDs, partition) {
			continue
		}
		used := min(owners[r.ProjectID+"/"+partition+"/"+k.Size], r.Amount)
		k.Reservations += r.Amount
		k.UsedReservations += used
		if asking != nil && *asking == r.ProjectID {
			continue
		}
		k.Free = max(k.Free-(r.Amount-used), 0)
	}
	k.RemainingReservations = k.Reservations - k.UsedReservations
}

// newRouter lists the endpoints with the roles that they ask for.
func (s *Simulator) newRouter() *router {
	r := &router{base: s.cfg.BasePath, routes: map[string][]*route{}}
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete

	r.add("version", get, "version", accessAny, s.versionGet)
	r.add("health", get, "health", accessAny, s.healthGet)
	r.add("user-me", get, "user/me", accessAny, s.userMe)

	r.add("machine-list", get, "machine", accessView, s.machineList)
	r.add("machine-get", get, "machine/{}", accessView, s.machineGet)
	r.add("machine-find", post, "machine/find", accessView, s.machineFind)
	r.add("machine-allocate", post, "machine/allocate", accessEdit, s.machineAllocate)
	r.add("machine-update", post, "machine", accessAdmin, s.machineUpdate)
	r.add("machine-free", del, "machine/{}/free", accessEdit, s.machineFree)
	r.add("machine-delete", del, "machine/{}", accessAdmin, s.machineDelete)
	r.add("machine-state", post, "machine/{}/state", accessEdit, s.machineState)
	r.add("machine-reinstall", post, "machine/{}/reinstall", accessEdit, s.machineReinstall)
	r.add("machine-consolepassword", get, "machine/consolepassword", accessEdit, s.machineConsolePassword)
	r.add("machine-issues-list", get, "machine/issues", accessView, s.issueList)
	r.add("machine-issues", post, "machine/issues/evaluate", accessView, s.machineIssues)
	r.add("machine-ipmi-find", post, "machine/ipmi/find", accessView, s.machineFind)
	r.add("machine-ipmi-get", get, "machine/{}/ipmi", accessView, s.machineGet)
	r.add("machine-ipmi-report", post, "machine/ipmi", accessEdit, s.ipmiReport)
	for verb, cmd := range powerCommands {
		r.add("machine-power", post, "machine/{}/power/"+verb, accessEdit, func(c *call) (int, any, error) { return s.machinePower(c, cmd) })
	}

	r.add("firewall-list", get, "firewall", accessView, s.firewallList)
	r.add("firewall-get", get, "firewall/{}", accessView, s.firewallGet)
	r.add("firewall-find", post, "firewall/find", accessView, s.firewallFind)
	r.add("firewall-allocate", post, "firewall/allocate", accessEdit, s.firewallAllocate)

	r.add("network-list", get, "network", accessView, s.networkList)
	r.add("network-get", get, "network/{}", accessView, s.networkGet)
	r.add("network-find", post, "network/find", accessView, s.networkFind)
	r.add("network-allocate", post, "network/allocate", accessEdit, s.networkAllocate)
	r.add("network-free", del, "network/free/{}", accessEdit, s.networkFree)
	r.add("network-free", post, "network/free/{}", accessEdit, s.networkFree).anyType = true
	r.add("network-update", post, "network", accessAdmin, s.networkUpdate)
	r.add("network-create", put, "network", accessAdmin, s.networkCreate)
	r.add("network-delete", del, "network/{}", accessAdmin, s.networkDelete)

	r.add("ip-list", get, "ip", accessView, s.ipList)
	r.add("ip-get", get, "ip/{}", accessView, s.ipGet)
	r.add("ip-find", post, "ip/find", accessView, s.ipFind)
	r.add("ip-allocate", post, "ip/allocate", accessEdit, s.ipAllocate)
	r.add("ip-allocate", post, "ip/allocate/{}", accessEdit, s.ipAllocate)
	r.add("ip-free", del, "ip/free/{}", accessEdit, s.ipFree)
	r.add("ip-update", post, "ip", accessEdit, s.ipUpdate)

	r.add("project-list", get, "project", accessView, s.projectFind)
	r.add("project-get", get, "project/{}", accessView, s.projectGet)
	r.add("project-find", post, "project/find", accessView, s.projectFind)
	r.add("project-create", put, "project", accessAdmin, s.projectCreate)
	r.add("project-update", post, "project", accessAdmin, s.projectUpdate)
	r.add("project-delete", del, "project/{}", accessAdmin, s.projectDelete)

	r.add("tenant-list", get, "tenant", accessView, s.tenantList)
	r.add("tenant-get", get, "tenant/{}", accessView, s.tenantGet)
	r.add("tenant-find", post, "tenant/find", accessView, s.tenantList)

	r.add("partition-list", get, "partition", accessAny, s.partitionList)
	r.add("partition-get", get, "partition/{}", accessAny, s.partitionGet)
	r.add("partition-capacity", post, "partition/capacity", accessAny, s.partitionCapacity)

	r.add("size-list", get, "size", accessAny, s.sizeList)
	r.add("size-get", get, "size/{}", accessAny, s.sizeGet)
	r.add("size-reservation-list", get, "size/reservations", accessAny, s.reservationList)
	r.add("size-reservation-find", post, "size/reservations/find", accessAny, s.reservationList)
	r.add("size-reservation-get", get, "size/reservations/{}", accessAny, s.reservationGet)
	r.add("size-reservation-usage", post, "size/reservations/usage", accessAny, s.reservationUsage)
	r.add("size-reservation-update", post, "size/reservations", accessEdit, s.reservationUpdate)
	r.add("size-reservation-create", put, "size/reservations", accessEdit, s.reservationCreate)
	r.add("size-reservation-delete", del, "size/reservations/{}", accessEdit, s.reservationDelete)

	r.add("size-image-constraint-list", get, "size-image-constraint", accessView, s.constraintList)
	r.add("size-image-constraint-get", get, "size-image-constraint/{}", accessView, s.constraintGet)
	r.add("size-image-constraint-create", put, "size-image-constraint", accessAdmin, s.constraintCreate)
	r.add("size-image-constraint-try", post, "size-image-constraint/try", accessAdmin, s.constraintTry)
	r.add("size-image-constraint-delete", del, "size-image-constraint/{}", accessAdmin, s.constraintDelete)

	r.add("image-list", get, "image", accessAny, s.imageList)
	r.add("image-get", get, "image/{}", accessAny, s.imageGet)
	r.add("image-latest", get, "image/{}/latest", accessAny, s.imageLatest)
	r.add("image-query", get, "image/{}/query", accessAny, s.imageQuery)
	r.add("image-find", post, "image/find", accessView, s.imageFind)
	r.add("image-delete", del, "image/{}", accessAdmin, s.imageDelete)

	r.add("filesystemlayout-list", get, "filesystemlayout", accessView, s.layoutList)
	r.add("filesystemlayout-get", get, "filesystemlayout/{}", accessView, s.layoutGet)
	r.add("switch-list", get, "switch", accessAny, s.switchList)
	return r
}
