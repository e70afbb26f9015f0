// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"net/http"
	"slices"
	"time"

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
			next.ipmi.BMCVersion, next.ipmi.PowerState, next.ipmi.LastUpdated = r.BMCVersion, r.PowerState, stored(now)
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

// issuesOf are the most common of the metal-api's issues of a machine (269).
func (s *Simulator) issuesOf(n *node, lastError bool) []string {
	if n.ec == nil {
		return []string{"no-event-container"}
	}
	var issues []string
	if n.m.partition == "" {
		issues = append(issues, "no-partition")
	}
	switch n.ec.liveliness {
	case livelinessDead:
		issues = append(issues, "liveliness-dead")
	case livelinessUnknown:
		issues = append(issues, "liveliness-unknown")
	}
	if n.ec.reclaimFailed {
		issues = append(issues, "failed-machine-reclaim")
	}
	if n.ec.crashLoop {
		issues = append(issues, "crash-loop")
	}
	if lastError && n.ec.lastError != nil && s.clock.Now().Sub(n.ec.lastError.Time) < 7*24*time.Hour {
		issues = append(issues, "last-event-error")
	}
	return issues
}

func (s *Simulator) machineIssues(c *call) (int, any, error) {
	q, err := decode[wire.MachineIssuesRequest](c)
	if err != nil {
		return 0, nil, err
	}
	c.spend(costFindBase + timesN(costIssuesPer, s.Machines()))
	s.lock()
	defer s.unlock()
	var list []*wire.MachineIssues
	for _, n := range s.order {
		if n.m == nil || !matchMachine(&q.MachineSearchQuery, n.m) {
			continue
		}
		issues := slices.DeleteFunc(s.issuesOf(n, true), func(i string) bool {
			return slices.Contains(q.Omit, i) || len(q.Only) > 0 && !slices.Contains(q.Only, i)
		})
		if len(issues) > 0 {
			list = append(list, &wire.MachineIssues{MachineID: n.m.id, Issues: issues})
		}
	}
	return http.StatusOK, list, nil
}

func (s *Simulator) issueList(c *call) (int, any, error) {
	type issue struct {
		ID          string `json:"id"`
		Description string `json:"description"`
		Severity    string `json:"severity"`
		RefURL      string `json:"ref_url"`
	}
	return http.StatusOK, []issue{
		{ID: "no-partition", Description: "machine with no partition", Severity: "major"},
		{ID: "liveliness-dead", Description: "the machine is not sending events anymore", Severity: "major"},
		{ID: "liveliness-unknown", Description: "the machine is not sending LLDP alive messages anymore", Severity: "major"},
		{ID: "failed-machine-reclaim", Description: "machine phones home but not allocated", Severity: "critical"},
		{ID: "crash-loop", Description: "machine is in a provisioning crash loop", Severity: "major"},
		{ID: "last-event-error", Description: "the machine had an error during the provisioning lifecycle", Severity: "minor"},
		{ID: "no-event-container", Description: "machine has no event container", Severity: "minor"},
	}, nil
}
