// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// What the durations of a firewall's spec can be.
const (
	minControllerInterval  = time.Second
	maxControllerInterval  = time.Hour
	minSilenceTimeout      = 10 * time.Minute
	minProvisioningTimeout = 10 * time.Minute
	maxProvisioningTimeout = 24 * time.Hour
)

// A firewall-controller that missed silentIntervals of its reports, and silenceMargin, is
// silent: one that is slow once is not.
const (
	silentIntervals = 3
	silenceMargin   = 5 * time.Minute
)

const (
	versionHelp    = "must consist of letters, digits, '.', '_', '+' and '-', and begin with a letter or digit, such as v2.4.1"
	egressIPsHelp  = "must list at least one address that the project has allocated in the network"
	reachableHelp  = "must be an IP address (203.0.113.53, 2001:db8::53) that the firewall can reach: no loopback, link-local, multicast or unspecified address, and no IPv4 address in the notation of IPv6"
	networkIDHelp  = "must be the id of a network of the firewall"
	togetherFormat = "must be set together with %s"
)

var versionSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)

// validateController validates the configuration of a firewall-controller, which may be
// left out.
func validateController(controller *infrastructure.FirewallController, path *field.Path) field.ErrorList {
	if controller == nil {
		return nil
	}
	errs := validateDuration(controller.Interval, minControllerInterval, maxControllerInterval, path.Child("interval"))
	errs = append(errs, validateDownload(controller.Version, controller.URL, path)...)
	errs = append(errs, validateRateLimits(controller.RateLimits, path.Child("rateLimits"))...)
	errs = append(errs, validateEgressIPs(controller.EgressIPs, path.Child("egressIPs"))...)
	errs = append(errs, validatePrefixes(controller.InternalPrefixes, path.Child("internalPrefixes"))...)
	allowed := path.Child("allowedNetworks")
	errs = append(errs, validatePrefixes(controller.AllowedNetworks.Ingress, allowed.Child("ingress"))...)
	errs = append(errs, validatePrefixes(controller.AllowedNetworks.Egress, allowed.Child("egress"))...)
	if server := controller.DNSServer; server != "" {
		errs = append(errs, validateReachable(server, path.Child("dnsServer"))...)
	}
	exporter := controller.NftablesExporter
	errs = append(errs, validateDownload(exporter.Version, exporter.URL, path.Child("nftablesExporter"))...)
	return append(errs, validateSilenceTimeout(controller, path)...)
}

// validateSilenceTimeout validates that a firewall is not replaced whose firewall-controller
// reports once an interval.
func validateSilenceTimeout(controller *infrastructure.FirewallController, path *field.Path) field.ErrorList {
	timeout, interval := controller.SilenceTimeout, controller.Interval
	silence := path.Child("silenceTimeout")
	errs := validateDuration(timeout, minSilenceTimeout, 0, silence)
	if len(errs) > 0 || timeout == nil || interval == nil || interval.Duration > maxControllerInterval {
		return errs
	}
	if least := silentIntervals*interval.Duration + silenceMargin; timeout.Duration < least {
		errs = append(errs, field.Invalid(silence, timeout.Duration.String(), fmt.Sprintf(
			"must be at least %d times interval (%s) and %s, which is %s: a firewall-controller reports once an interval",
			silentIntervals, shortDuration(interval.Duration), shortDuration(silenceMargin), shortDuration(least))))
	}
	return errs
}

// validateDownload validates a version and where it is downloaded from, both of which may
// be left out.
func validateDownload(version, url string, path *field.Path) field.ErrorList {
	versionPath, urlPath := path.Child("version"), path.Child("url")
	errs := tooLong(version, maxVersionLength, versionPath)
	switch {
	case errs != nil:
	case version == "" && url != "":
		errs = append(errs, field.Required(versionPath, fmt.Sprintf(togetherFormat, "url")))
	case version != "" && !versionSyntax.MatchString(version):
		errs = append(errs, field.Invalid(versionPath, version, versionHelp))
	}
	if url == "" && version != "" {
		return append(errs, field.Required(urlPath, fmt.Sprintf(togetherFormat, "version")))
	}
	return append(errs, validateURL(url, urlPath)...)
}

func validateRateLimits(limits []infrastructure.FirewallRateLimit, path *field.Path) field.ErrorList {
	if errs := tooMany(len(limits), maxFirewallNetworks, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, limit := range limits {
		errs = append(errs, requireNewNetwork(limit.NetworkID, seen, path.Index(i).Child("networkID"))...)
		if limit.Rate < 1 || limit.Rate > math.MaxInt32 {
			errs = append(errs, field.Invalid(path.Index(i).Child("rate"), limit.Rate, validation.InclusiveRangeError(1, math.MaxInt32)+" (MiB/s)"))
		}
	}
	return errs
}

func validateEgressIPs(egress []infrastructure.FirewallEgressIPs, path *field.Path) field.ErrorList {
	if errs := tooMany(len(egress), maxFirewallNetworks, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	all := 0
	for i, network := range egress {
		all += len(network.IPs)
		errs = append(errs, tooMany(len(network.IPs), maxEgressIPs, path.Index(i).Child("ips"))...)
	}
	if errs != nil {
		return errs
	}
	if errs = tooMany(all, maxEgressIPs, path); errs != nil {
		errs[0].Detail += ", counting the addresses of all networks"
		return errs
	}
	networks, addresses := map[string]bool{}, map[netip.Addr]bool{}
	for i, network := range egress {
		path := path.Index(i)
		errs = append(errs, requireNewNetwork(network.NetworkID, networks, path.Child("networkID"))...)
		if len(network.IPs) == 0 {
			errs = append(errs, field.Required(path.Child("ips"), egressIPsHelp))
		}
		for j, ip := range network.IPs {
			path := path.Child("ips").Index(j)
			if invalid := validateReachable(ip, path); invalid != nil {
				errs = append(errs, invalid...)
				continue
			}
			address, _ := netip.ParseAddr(ip)
			if addresses[address] {
				errs = append(errs, field.Duplicate(path, ip))
			}
			addresses[address] = true
		}
	}
	return errs
}

// requireNewNetwork validates the id of a network that is in the list once.
func requireNewNetwork(id string, seen map[string]bool, path *field.Path) field.ErrorList {
	errs := requireID(id, path, networkIDHelp)
	if seen[id] && id != "" {
		errs = append(errs, field.Duplicate(path, id))
	}
	seen[id] = true
	return errs
}

// validateReachable validates an address of another host.
func validateReachable(ip string, path *field.Path) field.ErrorList {
	if long := tooLong(ip, maxPrefixLength, path); long != nil {
		return long
	}
	if address, err := netip.ParseAddr(ip); err != nil || !reachable(address) {
		return field.ErrorList{field.Invalid(path, ip, reachableHelp)}
	}
	return nil
}

// validateControllerNetworks validates that the firewall-controller of a cluster's
// firewall is configured for networks that the firewall is part of.
func validateControllerNetworks(spec *infrastructure.MetalStackClusterSpec, path *field.Path) field.ErrorList {
	firewall := spec.FirewallSpec
	if firewall == nil || firewall.Controller == nil {
		return nil
	}
	networks := append([]string{spec.PublicNetworkID, spec.PrivateNetworkID}, firewall.Networks...)
	networks = slices.DeleteFunc(networks, func(id string) bool { return id == "" })
	slices.Sort(networks)
	var errs field.ErrorList
	check := func(id string, path *field.Path) {
		if id != "" && !slices.Contains(networks, id) {
			errs = append(errs, field.NotSupported(path, id, networks))
		}
	}
	path = path.Child("firewallSpec", "controller")
	for i, limit := range firewall.Controller.RateLimits {
		check(limit.NetworkID, path.Child("rateLimits").Index(i).Child("networkID"))
	}
	for i, egress := range firewall.Controller.EgressIPs {
		check(egress.NetworkID, path.Child("egressIPs").Index(i).Child("networkID"))
	}
	return errs
}
