// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

const (
	// lastErrorThreshold is how long ago the last error of an issue may be.
	lastErrorThreshold = 7 * 24 * time.Hour
	// bmcReportThreshold is how old the last report of a machine's controller may be.
	bmcReportThreshold = 20 * time.Minute

	issueLastEventError   = "last-event-error"
	issueNoEventContainer = "no-event-container"
	issueOutdated         = "bmc-info-outdated"
)

// issueTypes are the metal-api's kinds of issues, in its order (2/151).
var issueTypes = []wire.Issue{
	{ID: "no-partition", Severity: "major", Description: "machine with no partition"},
	{ID: "liveliness-dead", Severity: "major", Description: "the machine is not sending events anymore"},
	{ID: "liveliness-unknown", Severity: "major", Description: "the machine is not sending LLDP alive messages anymore"},
	{ID: "liveliness-not-available", Severity: "minor", Description: "the machine liveliness is not available"},
	{ID: "failed-machine-reclaim", Severity: "critical", Description: "machine phones home but not allocated"},
	{ID: "crashloop", Severity: "major", Description: "machine is in a provisioning crash loop (⭕)"},
	{ID: issueLastEventError, Severity: "minor", Description: "the machine had an error during the provisioning lifecycle"},
	{ID: "bmc-without-mac", Severity: "major", Description: "BMC has no mac address"},
	{ID: "bmc-without-ip", Severity: "major", Description: "BMC has no ip address"},
	{ID: issueOutdated, Severity: "major", Description: "BMC has not been updated from either metal-hammer or metal-bmc"},
	{ID: "asn-not-unique", Severity: "minor", Description: "The ASN is not unique (only impact on firewalls)"},
	{ID: "bmc-no-distinct-ip", Severity: "major", Description: "BMC IP address is not distinct"},
	{ID: issueNoEventContainer, Severity: "major", Description: "machine has no event container"},
}

var issueSeverities = []string{"minor", "major", "critical"}

// issuesOf are the issues of a machine but those that are about several machines, in the order of
// issueTypes.
func (s *Simulator) issuesOf(n *node, errorsSince time.Duration) []string {
	if n.ec == nil {
		return []string{issueNoEventContainer}
	}
	now := s.clock.Now()
	s.reportPower(n, now)
	ipmi := n.power.ipmiOf(n.m)
	var issues []string
	add := func(is bool, issue string) {
		if is {
			issues = append(issues, issue)
		}
	}
	add(n.m.partition == "", "no-partition")
	add(n.ec.liveliness == livelinessDead, "liveliness-dead")
	add(n.ec.liveliness == livelinessUnknown, "liveliness-unknown")
	add(n.ec.liveliness == "", "liveliness-not-available")
	add(n.ec.reclaimFailed, "failed-machine-reclaim")
	add(n.ec.crashLoop, "crashloop")
	add(n.ec.lastError != nil && now.Sub(n.ec.lastError.Time) < errorsSince, issueLastEventError)
	add(ipmi.MAC == "", "bmc-without-mac")
	add(ipmi.Address == "", "bmc-without-ip")
	// Where nothing reports by itself, that is no issue.
	add(s.reportsPower() && now.Sub(ipmi.LastUpdated) > bmcReportThreshold, issueOutdated)
	return issues
}

// machineIssues evaluates the issues of machines (2/153-166).
func (s *Simulator) machineIssues(c *call) (int, any, error) {
	q, err := decode[wire.MachineIssuesRequest](c)
	if err != nil {
		return 0, nil, err
	}
	c.spend(costFindBase + timesN(costIssuesPer, s.Machines()))
	isKnown := func(issue string) bool {
		return slices.ContainsFunc(issueTypes, func(t wire.Issue) bool { return t.ID == issue })
	}
	for _, issue := range slices.Concat(q.Only, q.Omit) {
		if !isKnown(issue) {
			return 0, nil, badRequest(fmt.Errorf("unknown issue type: %s", issue))
		}
	}
	least := slices.Index(issueSeverities, or(q.Severity, issueSeverities[0]))
	if least < 0 {
		return 0, nil, badRequest(fmt.Errorf("unknown issue severity: %s", q.Severity))
	}
	isWanted := func(issue string) bool {
		i := slices.IndexFunc(issueTypes, func(t wire.Issue) bool { return t.ID == issue })
		return slices.Index(issueSeverities, issueTypes[i].Severity) >= least &&
			!slices.Contains(q.Omit, issue) && (len(q.Only) == 0 || slices.Contains(q.Only, issue))
	}
	threshold := lastErrorThreshold
	if q.LastErrorThreshold != nil {
		threshold = *q.LastErrorThreshold
	}
	s.lock()
	defer s.unlock()
	var list []*wire.MachineIssues
	for _, n := range s.order {
		if n.m == nil || !matchMachine(&q.MachineSearchQuery, n.m) {
			continue
		}
		issues := slices.DeleteFunc(s.issuesOf(n, threshold), func(issue string) bool { return !isWanted(issue) })
		if len(issues) > 0 {
			list = append(list, &wire.MachineIssues{MachineID: n.m.id, Issues: issues})
		}
	}
	slices.SortFunc(list, func(a, b *wire.MachineIssues) int { return compare(a.MachineID, b.MachineID) })
	return http.StatusOK, list, nil
}

func (s *Simulator) issueList(*call) (int, any, error) {
	list := slices.Clone(issueTypes)
	for i := range list {
		list[i].RefURL = "https://docs.metal-stack.io/stable/installation/troubleshoot/#" + list[i].ID
	}
	return http.StatusOK, list, nil
}
