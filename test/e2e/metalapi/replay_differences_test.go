// SPDX-License-Identifier: Apache-2.0

package metalapi

import "regexp"

// differences are the answers that are not the metal-api's on purpose.
var differences = []struct {
	// recordings are files, path is that of the field that differs.
	recordings, path string
	reason           string
}{
	{`-post-machine$`, `^(status|error)$`, "machines are changed by their objects; their tags are right, so that metal-ccm has no reason to change them"},
	{`-C2-`, `^(|status)$`, "no address is allocated for a Service of another cluster id, and so none is found, changed or freed"},
	{`-get-health$`, `^services\.`, "health says whether requests are answered, and not by which programs"},
	{`^(025|034|044|045|047|048|065|072|085|086|088)-`, `^tags$`, "a machine that is the cluster's by its object has the cluster id among its tags"},
	{`-(get-machine|post-machine-find)$`, `^partition\.(mgmtserviceaddress|dns_servers|ntp_servers|bootconfig|labels|created|changed)$`, "not observed: how the partition is run"},
	{`-(get-machine|post-machine-find)$`, `^size\.(constraints|labels|created|changed)$`, "not observed; v1/size has the constraints"},
	{`-(get-machine|post-machine-find)$`, `^allocation\.image\.(url|features|expirationDate|classification|usedby|created|changed)$`, "not observed; v1/image has most of it"},
	{`-(get-machine|post-machine-find)$`, `^hardware\.(disks|cpus|nics|gpus)$`, "not observed: MAC addresses and neighbours are of the network fabric"},
	{`-(get-machine|post-machine-find)$`, `^allocation\.(filesystemlayout|boot_info|vpn)$`, "not observed"},
	{`-(get-machine|post-machine-find)$`, `^allocation\.(ssh_pub_keys|dns_servers|ntp_servers)$`, "not observed: the list is there, and empty"},
	{`-(get-machine|post-machine-find)$`, `^allocation\.description$`, "the metal-api leaves it out if it is empty"},
	{`-(get-machine|post-machine-find)$`, `^events\.log\.message$`, "what the provider's programs wrote"},
	{`-(get-machine|post-machine-find)$`, `^created$`, "not observed: when the machine was registered"},
}

// isExpected reports whether a difference is one of the table, and marks it as seen.
func (p *player) isExpected(file string, d difference) bool {
	for i, row := range differences {
		if regexp.MustCompile(row.recordings).MatchString(file) && regexp.MustCompile(row.path).MatchString(d.path) {
			p.used[i] = true
			return true
		}
	}
	return false
}
