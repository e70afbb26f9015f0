// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// idSyntax is that of metal-stack's own ids of images, sizes and networks.
var idSyntax = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)

const idHelp = "must be a metal-stack id: at most 253 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit (e.g. 'ubuntu-24.04', 'v1-small-x86', 'internet-fra-equ01')"

// validateID validates an id that may be left out.
func validateID(id string, path *field.Path) field.ErrorList {
	if errs := tooLong(id, maxIDLength, path); errs != nil || id == "" || idSyntax.MatchString(id) {
		return errs
	}
	return field.ErrorList{field.Invalid(path, id, idHelp)}
}

// requireID validates an id that may not be left out; help says where to find one.
func requireID(id string, path *field.Path, help string) field.ErrorList {
	if id == "" {
		return field.ErrorList{field.Required(path, help)}
	}
	return validateID(id, path)
}

// validatePartition validates a partition's id, which becomes a label of Nodes.
func validatePartition(partition string, path *field.Path) field.ErrorList {
	if errs := tooLong(partition, validation.LabelValueMaxLength, path); errs != nil {
		return errs
	}
	return validateID(partition, path)
}

func validateProjectID(project string, path *field.Path) field.ErrorList {
	const uuidLength = 36
	if errs := tooLong(project, uuidLength, path); errs != nil || project == "" {
		return errs
	}
	if parsed, err := uuid.Parse(project); err != nil || parsed.String() != project {
		return field.ErrorList{field.Invalid(path, project, "must be the id of a metal-stack project, which is a UUID in lower case; if omitted, it defaults to the project of the namespace")}
	}
	return nil
}

// validateProviderID validates a provider ID, which may be omitted. If it names a
// partition, that is the partition of the spec.
func validateProviderID(providerID, partition string, path *field.Path) field.ErrorList {
	if errs := tooLong(providerID, maxProviderIDLength, path); errs != nil || providerID == "" {
		return errs
	}
	id, err := providerid.Parse(providerID)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(path, providerID, err.Error())}
	case id.Partition != "" && partition != "" && id.Partition != partition:
		return field.ErrorList{field.Invalid(path, providerID, fmt.Sprintf("must name the partition of the spec, %q", partition))}
	}
	return nil
}

// validateHost validates the host of an endpoint, which may be left out.
func validateHost(host string, path *field.Path) field.ErrorList {
	if errs := tooLong(host, validation.DNS1123SubdomainMaxLength, path); errs != nil || host == "" {
		return errs
	}
	const help = "must be an IP address (203.0.113.7, 2001:db8::7) or a DNS name (api.example.org), without scheme and port"
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && !reachable(addr):
		return field.ErrorList{field.Invalid(path, host, "must be an address that clients can reach: no loopback, link-local, multicast or unspecified address, and no IPv4 address in the notation of IPv6")}
	case err == nil:
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		return field.ErrorList{field.Invalid(path, host, "must not be a loopback name; "+help)}
	case len(validation.IsDNS1123Subdomain(host)) > 0 || endsInDigits(host):
		return field.ErrorList{field.Invalid(path, host, help)}
	}
	return nil
}

// reachable reports whether an address can be another host's, in its usual form.
func reachable(addr netip.Addr) bool {
	thisNetwork := netip.PrefixFrom(netip.IPv4Unspecified(), 8) // RFC 1122, 3.2.1.3
	return addr.IsGlobalUnicast() && addr.Zone() == "" && !addr.Is4In6() && !thisNetwork.Contains(addr)
}

// endsInDigits recognizes an address with a slip, like 203.0.113.777, or in a form
// that only some programs read, like 0x7f000001, from a name: no top-level
// domain is a number.
func endsInDigits(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if digits, isHex := strings.CutPrefix(last, "0x"); isHex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// validatePort validates a TCP port that may be left out.
func validatePort(port int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if port != 0 {
		for _, msg := range validation.IsValidPortNum(int(port)) {
			errs = append(errs, field.Invalid(path, port, msg))
		}
	}
	return errs
}

// validateURL validates a URL that may be left out. It does not quote a password.
func validateURL(text string, path *field.Path) field.ErrorList {
	if errs := tooLong(text, maxURLLength, path); errs != nil || text == "" {
		return errs
	}
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "@") && (err != nil || u.User != nil):
		return field.ErrorList{field.Forbidden(path, "must not contain a user or a password, which everyone who reads the object would see")}
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "":
		return field.ErrorList{field.Invalid(path, text, "must be a URL that begins with https:// and a host, without a fragment, such as https://example.org/firewall-controller")}
	}
	return nil
}

// validateDuration validates a duration that may be left out, against the shortest one
// and, if there is one, the longest.
func validateDuration(d *metav1.Duration, shortest, longest time.Duration, path *field.Path) field.ErrorList {
	if d == nil || d.Duration >= shortest && (longest == 0 || d.Duration <= longest) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, d.Duration.String(), durationHelp(shortest, longest))}
}

func durationHelp(shortest, longest time.Duration) string {
	if longest == 0 {
		return "must be at least " + shortDuration(shortest)
	}
	return fmt.Sprintf("must be between %s and %s, inclusive", shortDuration(shortest), shortDuration(longest))
}

// shortDuration is 10m for ten minutes, not 10m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// maxSSHKeyShown is how many bytes of a wrong key an error repeats.
const maxSSHKeyShown = 24

// validateSSHKeys never quotes a whole key: it may be a private one, and errors
// are logged.
func validateSSHKeys(keys []string, path *field.Path) field.ErrorList {
	if errs := tooMany(len(keys), maxSSHKeys, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	for i, key := range keys {
		path := path.Index(i)
		if long := tooLong(key, maxSSHKeyLength, path); long != nil {
			errs = append(errs, long...)
			continue
		}
		if strings.Contains(key, "PRIVATE KEY") {
			errs = append(errs, field.Forbidden(path, "must be a public key, and this is a private key: replace the key pair, since the private key was disclosed"))
			continue
		}
		line := strings.Trim(key, " \t\r\n")
		_, comment, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case strings.ContainsFunc(line, unprintable):
			errs = append(errs, field.Invalid(path, oneline.Sanitize(line, maxSSHKeyShown), "must be one public key on one line, without control characters"))
		case len(comment) > maxSSHCommentLength:
			errs = append(errs, field.Invalid(path, oneline.Sanitize(line, maxSSHKeyShown), fmt.Sprintf("comment must not be more than %d bytes", maxSSHCommentLength)))
		case err != nil || len(rest) > 0:
			errs = append(errs, field.Invalid(path, oneline.Sanitize(key, maxSSHKeyShown), "must be one public key, as in ~/.ssh/authorized_keys: 'ssh-ed25519 AAAA… you@example.org'"))
		}
	}
	return errs
}

// validateNetworks validates further networks; seen are those that the object
// is part of anyway.
func validateNetworks(networks []string, path *field.Path, seen ...string) field.ErrorList {
	if errs := tooMany(len(networks), maxNetworks, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	known := map[string]bool{}
	for _, network := range seen {
		known[network] = true
	}
	for i, network := range networks {
		errs = append(errs, requireID(network, path.Index(i), "must be the id of a network: see 'kubectl get metalstacknetworks'")...)
		if known[network] && network != "" {
			errs = append(errs, field.Duplicate(path.Index(i), network))
		}
		known[network] = true
	}
	return errs
}

// validateSecretReference validates what names a Secret, which may be left out.
// A user who may write an object in one namespace may not read the Secrets of others.
func validateSecretReference(ref *infrastructure.SecretReference, namespace string, path *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	var errs field.ErrorList
	if ref.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must be the name of a Secret"))
	} else {
		errs = append(errs, validateSecretName(ref.Name, path.Child("name"))...)
	}
	if long := tooLong(ref.Namespace, validation.DNS1123LabelMaxLength, path.Child("namespace")); long != nil {
		errs = append(errs, long...)
	} else if ref.Namespace != "" && ref.Namespace != namespace {
		errs = append(errs, field.Invalid(path.Child("namespace"), ref.Namespace, fmt.Sprintf("must be the object's own namespace, which is %q, or left out", namespace)))
	}
	return errs
}

// validateOperatingSystem validates what is configured at the first boot.
func validateOperatingSystem(dnsServers, ntpServers []string, filesystemLayout string, path *field.Path) field.ErrorList {
	errs := validateID(filesystemLayout, path.Child("filesystemLayout"))
	dnsPath, ntpPath := path.Child("dnsServers"), path.Child("ntpServers")
	if many := tooMany(len(dnsServers), maxDNSServers, dnsPath); many != nil {
		errs = append(errs, many...)
	} else {
		for i, server := range dnsServers {
			if long := tooLong(server, maxPrefixLength, dnsPath.Index(i)); long != nil {
				errs = append(errs, long...)
			} else if address, err := netip.ParseAddr(server); err != nil || address.Zone() != "" {
				errs = append(errs, field.Invalid(dnsPath.Index(i), server, "must be an IP address (203.0.113.53, 2001:db8::53)"))
			}
		}
	}
	if many := tooMany(len(ntpServers), maxNTPServers, ntpPath); many != nil {
		return append(errs, many...)
	}
	for i, server := range ntpServers {
		if server == "" {
			errs = append(errs, field.Required(ntpPath.Index(i), "must be an IP address or a DNS name"))
			continue
		}
		errs = append(errs, validateHost(server, ntpPath.Index(i))...)
	}
	return errs
}
