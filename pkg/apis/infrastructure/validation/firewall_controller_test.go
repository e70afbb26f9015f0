// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func lasting(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// wholeController has all fields of a firewall-controller's configuration.
func wholeController() *infrastructure.FirewallController {
	return &infrastructure.FirewallController{
		Interval: lasting(10 * time.Second), Version: "v2.4.1", URL: "https://example.org/firewall-controller",
		RateLimits: []infrastructure.FirewallRateLimit{{NetworkID: "internet-vagrant-lab", Rate: 10}},
		EgressIPs:  []infrastructure.FirewallEgressIPs{{NetworkID: "internet-vagrant-lab", IPs: []string{"203.0.113.7", "2001:db8::7"}}},
		// Both families, in one list.
		InternalPrefixes: []string{"10.0.0.0/8", "fd00::/8"},
		AllowedNetworks:  infrastructure.FirewallAllowedNetworks{Ingress: []string{"203.0.113.0/24"}, Egress: []string{"0.0.0.0/0", "::/0"}},
		DNSServer:        "9.9.9.9", LogAcceptedConnections: true,
		NftablesExporter: infrastructure.FirewallNftablesExporter{Version: "v0.3.0", URL: "https://example.org/nftables-exporter"},
		SilenceTimeout:   lasting(10 * time.Minute),
	}
}

func TestValidateFirewall_Controller(t *testing.T) {
	t.Parallel()

	const controller = "controller."
	for name, test := range map[string]struct {
		edit func(*infrastructure.FirewallController)
		want []string
	}{
		"whole": {edit: func(*infrastructure.FirewallController) {}},
		"empty": {edit: func(c *infrastructure.FirewallController) { *c = infrastructure.FirewallController{} }},
		"longest times": {edit: func(c *infrastructure.FirewallController) {
			c.Interval, c.SilenceTimeout = lasting(time.Hour), lasting(1000*time.Hour)
		}},
		"interval is 0":   {func(c *infrastructure.FirewallController) { c.Interval = lasting(0) }, []string{controller + `interval: Invalid value: "0s": must be between 1s and 1h, inclusive`}},
		"interval is 61m": {func(c *infrastructure.FirewallController) { c.Interval = lasting(61 * time.Minute) }, []string{controller + `interval: Invalid value: "1h1m0s": must be between 1s and 1h`}},
		"short silence": {func(c *infrastructure.FirewallController) { c.SilenceTimeout = lasting(time.Minute) }, []string{
			controller + `silenceTimeout: Invalid value: "1m0s": must be at least 10m`,
		}},
		"shortest silence of long interval": {edit: func(c *infrastructure.FirewallController) {
			c.Interval, c.SilenceTimeout = lasting(time.Hour), lasting(3*time.Hour+5*time.Minute)
		}},
		"silence of a few intervals": {func(c *infrastructure.FirewallController) {
			c.Interval, c.SilenceTimeout = lasting(time.Hour), lasting(3*time.Hour)
		}, []string{
			controller + `silenceTimeout: Invalid value: "3h0m0s": must be at least 3 times interval (1h) and 5m, which is 3h5m: a firewall-controller reports once an interval`,
		}},
		"version without url": {func(c *infrastructure.FirewallController) { c.URL, c.NftablesExporter.URL = "", "" }, []string{
			controller + "url: Required value: must be set together with version", controller + "nftablesExporter.url: Required value: must be set together with version",
		}},
		"url without version": {func(c *infrastructure.FirewallController) { c.Version, c.NftablesExporter.Version = "", "" }, []string{
			controller + "version: Required value: must be set together with url", controller + "nftablesExporter.version: Required value: must be set together with url",
		}},
		"version with a space": {func(c *infrastructure.FirewallController) { c.Version = "v2 4" }, []string{controller + `version: Invalid value: "v2 4": must consist of letters`}},
		"url without https":    {func(c *infrastructure.FirewallController) { c.URL = "http://example.org/x" }, []string{controller + `url: Invalid value: "http://example.org/x": must be a URL that begins with https://`}},
		"url without host":     {func(c *infrastructure.FirewallController) { c.URL = "https:///x" }, []string{controller + `url: Invalid value: "https:///x"`}},
		"url with fragment":    {func(c *infrastructure.FirewallController) { c.URL = "https://example.org/x#y" }, []string{controller + `url: Invalid value`}},
		"no url":               {func(c *infrastructure.FirewallController) { c.URL = "https://exa mple.org" }, []string{controller + `url: Invalid value`}},
		"rate of 0": {func(c *infrastructure.FirewallController) { c.RateLimits[0].Rate = 0 }, []string{
			controller + "rateLimits[0].rate: Invalid value: 0: must be between 1 and 2147483647, inclusive (MiB/s)",
		}},
		"rate that is too high": {func(c *infrastructure.FirewallController) { c.RateLimits[0].Rate = 1 << 31 }, []string{controller + "rateLimits[0].rate: Invalid value: 2147483648"}},
		"two rates of a network": {func(c *infrastructure.FirewallController) { c.RateLimits = append(c.RateLimits, c.RateLimits[0]) }, []string{
			controller + `rateLimits[1].networkID: Duplicate value: "internet-vagrant-lab"`,
		}},
		"networks without id": {func(c *infrastructure.FirewallController) {
			c.RateLimits[0].NetworkID, c.EgressIPs[0].NetworkID = "", ""
		}, []string{
			controller + "rateLimits[0].networkID: Required value: must be the id of a network of the firewall", controller + "egressIPs[0].networkID: Required value",
		}},
		"no id of a network": {func(c *infrastructure.FirewallController) { c.RateLimits[0].NetworkID = "a/b" }, []string{controller + `rateLimits[0].networkID: Invalid value: "a/b"`}},
		"egress without addresses": {func(c *infrastructure.FirewallController) { c.EgressIPs[0].IPs = nil }, []string{
			controller + "egressIPs[0].ips: Required value: must list at least one address that the project has allocated",
		}},
		"egress of no address": {func(c *infrastructure.FirewallController) {
			c.EgressIPs[0].IPs = []string{"203.0.113.7/32", "", "127.0.0.1"}
		}, []string{
			controller + `egressIPs[0].ips[0]: Invalid value: "203.0.113.7/32": must be an IP address`, controller + `egressIPs[0].ips[1]: Invalid value: ""`, controller + `egressIPs[0].ips[2]: Invalid value: "127.0.0.1"`,
		}},
		"an address twice, in other words": {func(c *infrastructure.FirewallController) {
			c.EgressIPs = append(c.EgressIPs, infrastructure.FirewallEgressIPs{NetworkID: "mpls", IPs: []string{"2001:DB8:0::7"}})
		}, []string{controller + `egressIPs[1].ips[0]: Duplicate value: "2001:DB8:0::7"`}},
		"no prefixes": {func(c *infrastructure.FirewallController) {
			c.InternalPrefixes, c.AllowedNetworks.Ingress, c.AllowedNetworks.Egress = []string{"10.0.0.1"}, []string{"x"}, []string{"::/129"}
		}, []string{
			controller + `internalPrefixes[0]: Invalid value: "10.0.0.1": must be a prefix`,
			controller + `allowedNetworks.ingress[0]: Invalid value: "x": must be a prefix`, controller + `allowedNetworks.egress[0]: Invalid value: "::/129": must be a prefix`,
		}},
		"loopback as DNS server":    {func(c *infrastructure.FirewallController) { c.DNSServer = "127.0.0.53" }, []string{controller + `dnsServer: Invalid value: "127.0.0.53": must be an IP address`}},
		"unspecified DNS server":    {func(c *infrastructure.FirewallController) { c.DNSServer = "::" }, []string{controller + `dnsServer: Invalid value: "::"`}},
		"DNS server by name":        {func(c *infrastructure.FirewallController) { c.DNSServer = "dns.example.org" }, []string{controller + `dnsServer: Invalid value: "dns.example.org"`}},
		"DNS server of a long name": {func(c *infrastructure.FirewallController) { c.DNSServer = strings.Repeat("1", 65) }, []string{controller + `dnsServer: Too long: may not be more than 64 bytes`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := wholeController()
			test.edit(c)
			says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller = c })), test.want...)

			template := &infrastructure.MetalStackClusterTemplate{ObjectMeta: cluster().ObjectMeta}
			template.Spec.Template.Spec.FirewallSpec = &infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86", Controller: c}
			says(t, ValidateClusterTemplate(template), test.want...)
		})
	}
}

func TestValidateFirewall_ShowsNoPasswordOfAURL(t *testing.T) {
	t.Parallel()

	for _, url := range []string{"https://me:hunter2@example.org/x", "https://me:hunter2@exa mple.org", "http://hunter2@example.org", "https://me:hunter2@example.org:port"} {
		errs := ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) {
			f.Spec.Controller = &infrastructure.FirewallController{Version: "v2", URL: url}
		}))
		says(t, errs, "spec.controller.url: Forbidden: must not contain a user or a password")
		assert.NotContains(t, errs.ToAggregate().Error(), "hunter2", url)
	}
	says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) {
		f.Spec.Controller = &infrastructure.FirewallController{Version: "v2", URL: "https://example.org/@scope/x"}
	})))
}

func TestValidateFirewall_EgressIPsAreLimitedTogether(t *testing.T) {
	t.Parallel()

	of := func(counts ...int) *infrastructure.MetalStackFirewall {
		return firewall(func(f *infrastructure.MetalStackFirewall) {
			f.Spec.Controller = &infrastructure.FirewallController{}
			for n, count := range counts {
				egress := infrastructure.FirewallEgressIPs{NetworkID: fmt.Sprintf("net-%d", n)}
				for i := range count {
					egress.IPs = append(egress.IPs, fmt.Sprintf("203.0.%d.%d", n, i+1))
				}
				f.Spec.Controller.EgressIPs = append(f.Spec.Controller.EgressIPs, egress)
			}
		})
	}
	says(t, ValidateFirewall(of(16)))
	says(t, ValidateFirewall(of(8, 8)))
	says(t, ValidateFirewall(of(17)), "spec.controller.egressIPs[0].ips: Too many: 17: must have at most 16 items")
	says(t, ValidateFirewall(of(8, 9)), "spec.controller.egressIPs: Too many: 17: must have at most 16 items, counting the addresses of all networks")
}

func TestValidateFirewall_ProvisioningTimeout(t *testing.T) {
	t.Parallel()

	for timeout, want := range map[time.Duration][]string{
		10 * time.Minute: nil, 24 * time.Hour: nil,
		9 * time.Minute: {`spec.provisioningTimeout: Invalid value: "9m0s": must be between 10m and 24h, inclusive`},
		25 * time.Hour:  {`spec.provisioningTimeout: Invalid value: "25h0m0s"`},
		-time.Hour:      {`spec.provisioningTimeout: Invalid value: "-1h0m0s"`},
	} {
		says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.ProvisioningTimeout = lasting(timeout) })), want...)
	}
}

func TestValidateFirewall_MaintenanceWindow(t *testing.T) {
	t.Parallel()

	const window = "spec.autoUpdate.maintenanceWindow."
	for name, test := range map[string]struct {
		window infrastructure.MaintenanceWindow
		want   []string
	}{
		"shortest":  {window: infrastructure.MaintenanceWindow{Begin: "00:00", Duration: *lasting(15 * time.Minute)}},
		"longest":   {window: infrastructure.MaintenanceWindow{Days: daysOfWeek, Begin: "23:59", Duration: *lasting(24 * time.Hour), TimeZone: "America/Argentina/Buenos_Aires"}},
		"UTC":       {window: infrastructure.MaintenanceWindow{Begin: "02:30", Duration: *lasting(time.Hour), TimeZone: "UTC"}},
		"empty":     {infrastructure.MaintenanceWindow{}, []string{window + "begin: Required value: must be a time of day", window + "duration: Required value: must be between 15m and 24h"}},
		"too short": {infrastructure.MaintenanceWindow{Begin: "02:30", Duration: *lasting(time.Minute)}, []string{window + `duration: Invalid value: "1m0s": must be between 15m and 24h, inclusive`}},
		"no time":   {infrastructure.MaintenanceWindow{Begin: "24:00", Duration: *lasting(time.Hour)}, []string{window + `begin: Invalid value: "24:00": must be a time of day from 00:00 to 23:59`}},
		"no digits": {infrastructure.MaintenanceWindow{Begin: "2:30", Duration: *lasting(time.Hour)}, []string{window + `begin: Invalid value: "2:30"`}},
		"days": {infrastructure.MaintenanceWindow{Days: []string{"Sat", "sun", "Sat"}, Begin: "02:30", Duration: *lasting(time.Hour)}, []string{
			window + `days[1]: Unsupported value: "sun": supported values: "Mon", "Tue"`, window + `days[2]: Duplicate value: "Sat"`,
		}},
		"unknown zone":  {infrastructure.MaintenanceWindow{Begin: "02:30", Duration: *lasting(time.Hour), TimeZone: "Europe/Bonn"}, []string{window + `timeZone: Invalid value: "Europe/Bonn": must be the name of a time zone in the IANA database`}},
		"server's zone": {infrastructure.MaintenanceWindow{Begin: "02:30", Duration: *lasting(time.Hour), TimeZone: "Local"}, []string{window + `timeZone: Invalid value: "Local"`}},
		"file":          {infrastructure.MaintenanceWindow{Begin: "02:30", Duration: *lasting(time.Hour), TimeZone: "../../etc/passwd"}, []string{window + `timeZone: Invalid value`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			update := &infrastructure.FirewallAutoUpdate{MaintenanceWindow: &test.window}
			says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.AutoUpdate = update })), test.want...)
		})
	}
	says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.AutoUpdate = &infrastructure.FirewallAutoUpdate{} })))
}

func TestValidateCluster_ControllerIsAboutNetworksOfTheFirewall(t *testing.T) {
	t.Parallel()

	with := func(edits ...func(*infrastructure.MetalStackCluster)) *infrastructure.MetalStackCluster {
		return cluster(append([]func(*infrastructure.MetalStackCluster){func(c *infrastructure.MetalStackCluster) {
			c.Spec.FirewallSpec.Networks, c.Spec.PrivateNetworkID = []string{"mpls"}, "own"
			c.Spec.FirewallSpec.Controller = &infrastructure.FirewallController{
				RateLimits: []infrastructure.FirewallRateLimit{{NetworkID: "internet-vagrant-lab", Rate: 1}, {NetworkID: "own", Rate: 1}},
				EgressIPs:  []infrastructure.FirewallEgressIPs{{NetworkID: "mpls", IPs: []string{"203.0.113.7"}}},
			}
		}}, edits...)...)
	}
	foreign := func(c *infrastructure.MetalStackCluster) {
		c.Spec.FirewallSpec.Controller.RateLimits[1].NetworkID = "other"
	}
	const want = `spec.firewallSpec.controller.rateLimits[1].networkID: Unsupported value: "other": supported values: "internet-vagrant-lab", "mpls", "own"`
	says(t, ValidateCluster(with()))
	says(t, ValidateCluster(with(foreign)), want)
	says(t, ValidateClusterUpdate(with(foreign), with()), want)
	says(t, ValidateClusterUpdate(with(func(c *infrastructure.MetalStackCluster) { c.Spec.FirewallSpec.Networks = nil }), with()),
		`spec.firewallSpec.controller.egressIPs[0].networkID: Unsupported value: "mpls": supported values: "internet-vagrant-lab", "own"`)

	template := &infrastructure.MetalStackClusterTemplate{ObjectMeta: cluster().ObjectMeta}
	template.Spec.Template.Spec.FirewallSpec = with(foreign).Spec.FirewallSpec
	says(t, ValidateClusterTemplate(template))
}

func TestValidateFirewallUpdate_WhatChangesWhileItRuns(t *testing.T) {
	t.Parallel()

	allocated := func(f *infrastructure.MetalStackFirewall) {
		f.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}}
	}
	set := func(f *infrastructure.MetalStackFirewall) {
		f.Spec.Controller, f.Spec.ProvisioningTimeout, f.Spec.AutoUpdate = wholeController(), lasting(time.Hour), &infrastructure.FirewallAutoUpdate{}
	}
	other := func(f *infrastructure.MetalStackFirewall) {
		f.Spec.Controller, f.Spec.ProvisioningTimeout = &infrastructure.FirewallController{}, lasting(2*time.Hour)
		f.Spec.AutoUpdate = &infrastructure.FirewallAutoUpdate{MaintenanceWindow: &infrastructure.MaintenanceWindow{Begin: "02:00", Duration: *lasting(time.Hour)}}
	}
	says(t, ValidateFirewallUpdate(firewall(allocated, set), firewall(allocated)))
	says(t, ValidateFirewallUpdate(firewall(allocated, other), firewall(allocated, set)))
	says(t, ValidateFirewallUpdate(firewall(allocated), firewall(allocated, set)))
	says(t, ValidateFirewallUpdate(firewall(allocated, other, func(f *infrastructure.MetalStackFirewall) { f.Spec.ProvisioningTimeout = lasting(1) }), firewall(allocated)),
		"spec.provisioningTimeout: Invalid value")

	// What is wrong by now, such as the name of a time zone, is as it was.
	wrong := func(f *infrastructure.MetalStackFirewall) {
		f.Spec.Controller, f.Spec.ProvisioningTimeout = &infrastructure.FirewallController{DNSServer: "x"}, lasting(1)
		f.Spec.AutoUpdate = &infrastructure.FirewallAutoUpdate{MaintenanceWindow: &infrastructure.MaintenanceWindow{TimeZone: "Europe/Bonn"}}
	}
	image := func(f *infrastructure.MetalStackFirewall) { f.Spec.Image = "firewall-ubuntu-3.1" }
	says(t, ValidateFirewallUpdate(firewall(wrong, image), firewall(wrong)))
	says(t, ValidateFirewallUpdate(firewall(wrong, func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller.Version = "v2" }), firewall(wrong)),
		"spec.controller.url: Required value", "spec.controller.dnsServer: Invalid value")
}

func TestValidateFirewallStatusUpdate_RecordsOfTheControllerManager(t *testing.T) {
	t.Parallel()

	const long = 5 << 10
	whole := infrastructure.MetalStackFirewallStatus{
		Distance:         8,
		Controller:       &infrastructure.FirewallControllerStatus{Version: "v2.4.1", Message: "all fine", Distance: new(int32(8))},
		ManagementAccess: &infrastructure.FirewallManagementAccess{URL: "https://127.0.0.1:6443", ServiceAccountUID: "2294c949-88f6-5390-8154-fa53d93a3313"},
		WorkloadAccess:   &infrastructure.FirewallWorkloadAccess{KubeconfigSecretName: "web-firewall-workload-config", TokenSecretName: "web-firewall-workload-token", APIServerURL: "https://[2001:db8::1]:6443"},
	}
	for name, test := range map[string]struct {
		edit func(*infrastructure.MetalStackFirewallStatus)
		want []string
	}{
		"whole": {edit: func(*infrastructure.MetalStackFirewallStatus) {}},
		"distances": {func(s *infrastructure.MetalStackFirewallStatus) {
			s.Distance, s.Controller.Distance = 9, new(int32(-1))
		}, []string{
			"status.distance: Invalid value: 9: must be between 0 and 8, inclusive", "status.controller.distance: Invalid value: -1: must be between 0 and 255, inclusive",
		}},
		"long texts": {func(s *infrastructure.MetalStackFirewallStatus) {
			text := strings.Repeat("a", long)
			s.Controller.Version, s.Controller.NftablesExporterVersion, s.Controller.Message = text, text, text
			s.ManagementAccess.URL, s.ManagementAccess.ServiceAccountUID = text, "x"
			s.WorkloadAccess.KubeconfigSecretName, s.WorkloadAccess.TokenSecretName, s.WorkloadAccess.APIServerURL = text, text, text
		}, []string{
			"status.controller.version: Too long: may not be more than 128 bytes", "status.controller.nftablesExporterVersion: Too long", "status.controller.message: Too long: may not be more than 1024 bytes",
			"status.managementAccess.url: Too long: may not be more than 2048 bytes",
			"status.workloadAccess.kubeconfigSecretName: Too long: may not be more than 253 bytes", "status.workloadAccess.tokenSecretName: Too long", "status.workloadAccess.apiServerURL: Too long",
		}},
		"no names": {func(s *infrastructure.MetalStackFirewallStatus) {
			s.WorkloadAccess = &infrastructure.FirewallWorkloadAccess{KubeconfigSecretName: "A", TokenSecretName: "../x", APIServerURL: "https://token@example.org"}
		}, []string{
			`status.workloadAccess.kubeconfigSecretName: Invalid value: "A"`, `status.workloadAccess.tokenSecretName: Invalid value: "../x"`, "status.workloadAccess.apiServerURL: Forbidden",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status := *whole.DeepCopy()
			test.edit(&status)
			says(t, ValidateFirewallStatusUpdate(firewall(func(f *infrastructure.MetalStackFirewall) { f.Status = status }), firewall()), test.want...)
		})
	}
}

func TestShortDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{time.Second: "1s", 10 * time.Minute: "10m", 24 * time.Hour: "24h", time.Hour + 30*time.Second: "1h0m30s", 10 * time.Hour: "10h"} {
		assert.Equal(t, want, shortDuration(d))
	}
}
