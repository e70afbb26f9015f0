// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"net/http"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// ipmiReport is what metal-bmc posts: it can make a machine without events (326).
func (s *Simulator) ipmiReport(c *call) (int, any, error) {
	req, err := decode[wire.MachineIpmiReports](c)
	if err != nil {
		return 0, nil, err
	}
	if req.PartitionID == "" {
		return 0, nil, badRequest(errors.New("partition id must not be empty"))
	}
	s.lock()
	defer s.unlock()
	if _, ok := s.cat.partitions[req.PartitionID]; !ok {
		return 0, nil, notFound("no partition with id %q found", req.PartitionID)
	}
	resp := &wire.IpmiReportResponse{Updated: []string{}, Created: []string{}}
	for id, r := range req.Reports {
		now := s.instant()
		n, known := s.machines[id]
		if known && n.m != nil {
			next := *n.m
			next.ipmi.Address = r.BMCIp + ":623"
			// What a report leaves out stays as it is (2/129, 2/130).
			next.ipmi.BMCVersion, next.ipmi.PowerState = or(r.BMCVersion, next.ipmi.BMCVersion), or(r.PowerState, next.ipmi.PowerState)
			next.ipmi.LastUpdated = stored(now)
			n.power.reported, n.power.state = now, next.ipmi.PowerState
			if r.PowerMetric != nil {
				metric := wire.PowerMetric(*r.PowerMetric)
				next.ipmi.PowerMetric = &metric
			}
			next.ipmi.PowerSupplies = nil
			for _, supply := range r.PowerSupplies {
				next.ipmi.PowerSupplies = append(next.ipmi.PowerSupplies, wire.PowerSupply{Status: wire.PowerSupplyStatus(supply.Status)})
			}
			next.led.Value = r.IndicatorLEDState
			if _, err := s.updateMachine(n.m, &next); err == nil {
				resp.Updated = append(resp.Updated, id)
			}
			continue
		}
		n = s.nodeFor(id, now)
		n.m.partition = req.PartitionID
		n.m.led.Value = r.IndicatorLEDState
		n.m.ipmi = wire.IPMI{Address: r.BMCIp + ":623", LastUpdated: stored(now)}
		resp.Created = append(resp.Created, id)
	}
	return http.StatusOK, resp, nil
}
