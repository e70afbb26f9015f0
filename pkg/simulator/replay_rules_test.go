// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const unknownID = "20000000-0000-4000-8000-000000000000"

// TestReplay_RefusalRules holds the rules behind the recorded refusals for what
// nobody recorded: other fields, other orders of mistakes, other entities.
func TestReplay_RefusalRules(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	net := r.privateNetwork(t, nil)
	second := r.privateNetwork(t, nil)
	shared := r.privateNetwork(t, object{"shared": true})
	sharedToo := r.privateNetwork(t, object{"shared": true})
	foreign := r.must(t, "POST", "/v1/network/allocate", object{"projectid": projectB, "partitionid": "fra-01"})["id"].(string)
	r.must(t, "POST", "/v1/ip/allocate/203.0.113.140", object{"projectid": projectA, "networkid": "internet-fra-01", "type": "static"})
	taken := r.must(t, "POST", "/v1/machine/allocate", byID(server("1"), net))["id"].(string)
	locked := server("2")
	r.must(t, "POST", "/v1/machine/allocate", byID(locked, net))
	r.must(t, "POST", "/v1/machine/"+locked+"/state", object{"value": "LOCKED", "description": "x"})

	networks := func(ids ...string) []any {
		var list []any
		for _, id := range ids {
			list = append(list, object{"networkid": id})
		}
		return list
	}
	allocate := func(more object) object { return bySize(net, more) }
	without := func(body object, keys ...string) object {
		for _, k := range keys {
			delete(body, k)
		}
		return body
	}
	firewall := func(more object) object {
		body := object{"imageid": simulator.FirewallImage, "networks": networks(net, "internet-fra-01")}
		for k, v := range more {
			body[k] = v
		}
		return bySize(net, body)
	}
	rules := func(egress, ingress object) object {
		rules := object{}
		if egress != nil {
			rules["egress"] = []any{egress}
		}
		if ingress != nil {
			rules["ingress"] = []any{ingress}
		}
		return firewall(object{"firewall_rules": rules})
	}
	const (
		noProject = "rpc error: code = NotFound desc = project with id:" + unknownID + " not found sql: no rows in result set"
		gather    = "unable to gather networks:"
	)

	for name, tc := range map[string]struct {
		method, path string
		body         any
		status       int
		message      string
	}{
		// Machine allocate: what is wrong with the request itself comes first, and is 400.
		"no networks come before no image":                {"POST", "/v1/machine/allocate", object{}, 400, "network ids cannot be nil"},
		"the image comes before the size":                 {"POST", "/v1/machine/allocate", allocate(object{"imageid": "nope-1.0", "sizeid": "nope"}), 400, "NotFound no image for id:nope-1.0 found:no image for os:nope version:1.0.0 found"},
		"an exact image that is not there":                {"POST", "/v1/machine/allocate", allocate(object{"imageid": "ubuntu-24.04.19990101"}), 400, "NotFound no image for id:ubuntu-24.04.19990101 found:no image for os:ubuntu version:24.4.19990101 found"},
		"the feature comes before the size":               {"POST", "/v1/machine/allocate", allocate(object{"imageid": "firewall-ubuntu-3.0", "sizeid": "nope"}), 400, "given image is not usable for a machine, features: firewall"},
		"the partition comes before the size":             {"POST", "/v1/machine/allocate", without(allocate(nil), "partitionid", "sizeid"), 400, "when no machine id is given, a partition id must be specified"},
		"the size comes before the partition's existence": {"POST", "/v1/machine/allocate", allocate(object{"sizeid": "nope", "partitionid": "nope"}), 400, `size:nope not found err:NotFound no size with id "nope" found`},
		"an unknown machine":                              {"POST", "/v1/machine/allocate", byID(unknownID, net), 400, "uuid given but no machine found with uuid:" + unknownID + ` err:NotFound no machine with id "` + unknownID + `" found`},
		"four DNS servers":                                {"POST", "/v1/machine/allocate", allocate(object{"dns_servers": []any{object{"ip": "1.1.1.1"}, object{"ip": "1.1.1.2"}, object{"ip": "1.1.1.3"}, object{"ip": "1.1.1.4"}}}), 400, "please specify a maximum of three dns servers"},
		"a DNS server by name":                            {"POST", "/v1/machine/allocate", allocate(object{"dns_servers": []any{object{"ip": "dns.example"}}}), 400, `ip: {dns.example} for dns server not correct err: ParseAddr("dns.example"): unexpected character (at "dns.example")`},
		"an NTP server that is no name":                   {"POST", "/v1/machine/allocate", allocate(object{"ntp_servers": []any{object{"address": "not a name"}}}), 400, "dns name: {not a name} for ntp server not correct"},
		"a number for a name":                             {"POST", "/v1/machine/allocate", object{"name": 1}, 400, "json: cannot unmarshal number into Go struct field MachineAllocateRequest.name of type string"},
		// Then the project, the addresses and the keys, 422.
		"no project":                     {"POST", "/v1/machine/allocate", without(allocate(nil), "projectid"), 422, "project id must be specified"},
		"no address":                     {"POST", "/v1/machine/allocate", allocate(object{"ips": []any{"x"}, "ssh_pub_keys": []any{"x"}}), 422, `"x" is not a valid IP address`},
		"no key":                         {"POST", "/v1/machine/allocate", allocate(object{"ssh_pub_keys": []any{"x"}, "projectid": unknownID}), 422, "invalid public SSH key: x error:ssh: no key found"},
		"a firewall without any address": {"POST", "/v1/firewall/allocate", firewall(object{"networks": []any{object{"networkid": net, "autoacquire": false}}}), 422, "when no ip is given at least one auto acquire network must be specified"},
		"fewer addresses than networks":  {"POST", "/v1/machine/allocate", allocate(object{"networks": []any{object{"networkid": net, "autoacquire": false}}}), 422, "missing ip(s) for network(s) without automatic ip allocation"},
		"an unknown project":             {"POST", "/v1/machine/allocate", allocate(object{"projectid": unknownID}), 404, noProject},
		"an unknown layout":              {"POST", "/v1/machine/allocate", allocate(object{"filesystemlayoutid": "x"}), 404, `NotFound no filesystemlayout with id "x" found`},
		"a taken machine":                {"POST", "/v1/machine/allocate", byID(taken, "nope"), 422, "machine is already allocated"},
		"a layout for another disk":      {"POST", "/v1/machine/allocate", allocate(object{"filesystemlayoutid": "default-large", "networks": networks("nope")}), 422, "unable to check for fsl match:device:/dev/nvme0n1 does not exist on given hardware"},
		// Then the networks.
		"networks are looked at in order":   {"POST", "/v1/machine/allocate", allocate(object{"networks": networks("underlay-fra-01", "nope")}), 422, gather + "underlay networks are not allowed to be set explicitly: underlay-fra-01"},
		"the unknown one first":             {"POST", "/v1/machine/allocate", allocate(object{"networks": networks("nope", "underlay-fra-01")}), 404, gather + `NotFound no network with id "nope" found`},
		"two private ones":                  {"POST", "/v1/machine/allocate", allocate(object{"networks": networks(net, second)}), 422, gather + "multiple private networks are specified but there must be only one primary private network that must not be shared"},
		"an external one twice":             {"POST", "/v1/machine/allocate", allocate(object{"networks": networks(net, "internet-fra-01", "internet-fra-01")}), 422, gather + "given network ids are not unique"},
		"a shared one as well":              {"POST", "/v1/machine/allocate", allocate(object{"networks": networks(net, shared)}), 422, gather + "machines are not allowed to be placed into multiple private networks"},
		"two shared ones":                   {"POST", "/v1/machine/allocate", allocate(object{"networks": networks(shared, sharedToo)}), 422, gather + "machines and firewalls are not allowed to be placed into multiple private, shared networks (firewall needs an unshared private network and machines may only reside in one private network)"},
		"another project's":                 {"POST", "/v1/machine/allocate", allocate(object{"networks": networks(foreign)}), 422, gather + "the given private network does not belong to the project, which is not allowed"},
		"an unknown address":                {"POST", "/v1/machine/allocate", allocate(object{"ips": []any{"203.0.113.250"}}), 404, gather + `NotFound no ip with id "203.0.113.250" found`},
		"an address of no network":          {"POST", "/v1/machine/allocate", allocate(object{"ips": []any{"203.0.113.140"}}), 422, gather + `given ip "203.0.113.140" is not in any of the given networks, which is required`},
		"a private network without address": {"POST", "/v1/machine/allocate", allocate(object{"ips": []any{"203.0.113.140"}, "networks": []any{object{"networkid": net, "autoacquire": false}, object{"networkid": "internet-fra-01"}}}), 422, gather + `the private network "` + net + `" has no auto ip acquisition, but no suitable IPs were provided, which would lead into a machine having no ip address`},
		// Firewall rules.
		"a protocol":                {"POST", "/v1/firewall/allocate", rules(object{"protocol": "sctp", "to": []any{"0.0.0.0/0"}}, nil), 400, "no such protocol: sctp"},
		"egress before ingress":     {"POST", "/v1/firewall/allocate", rules(object{"ports": []any{0 - 1}, "to": []any{"0.0.0.0/0"}}, object{"protocol": "x"}), 400, "egress rule with error:port is out of range"},
		"a port of an ingress rule": {"POST", "/v1/firewall/allocate", rules(nil, object{"ports": []any{65536}, "from": []any{"0.0.0.0/0"}}), 400, "ingress rule with error:port is out of range"},
		"a source":                  {"POST", "/v1/firewall/allocate", rules(nil, object{"from": []any{"10.0.0.0"}}), 400, `ingress rule with error:invalid cidr: netip.ParsePrefix("10.0.0.0"): no '/'`},
		"rules come before the image's feature": {"POST", "/v1/firewall/allocate", func() object {
			b := rules(object{"protocol": "x"}, nil)
			b["imageid"] = "ubuntu-24.04"
			return b
		}(), 400, "no such protocol: x"},
		// Machines.
		"get what is no machine":         {"GET", "/v1/firewall/nope", nil, 404, `NotFound no machine with id "nope" found`},
		"a machine is no firewall":       {"GET", "/v1/firewall/" + taken, nil, 404, "machine is not a firewall"},
		"update what is unknown":         {"POST", "/v1/machine", object{"id": unknownID, "tags": []any{"x"}}, 404, `NotFound no machine with id "` + unknownID + `" found`},
		"update what is nobody's":        {"POST", "/v1/machine", object{"id": server("3"), "description": "x"}, 400, "only allocated machines can be updated"},
		"free what is locked":            {"DELETE", "/v1/machine/" + locked + "/free", nil, 422, "machine is locked"},
		"a state that is none":           {"POST", "/v1/machine/" + taken + "/state", object{"value": "X", "description": "x"}, 400, "unknown MachineState:X"},
		"a state without a reason":       {"POST", "/v1/machine/" + unknownID + "/state", object{"value": "RESERVED"}, 400, "you must supply a description"},
		"a state of an unknown machine":  {"POST", "/v1/machine/" + unknownID + "/state", object{"value": ""}, 404, `NotFound no machine with id "` + unknownID + `" found`},
		"the password of nobody's":       {"GET", "/v1/machine/consolepassword", object{"id": server("3"), "reason": "because"}, 422, "machine is not allocated, no consolepassword present"},
		"the password of an unknown one": {"GET", "/v1/machine/consolepassword", object{"id": unknownID, "reason": "because"}, 404, `NotFound no machine with id "` + unknownID + `" found`},
		"reinstall what is nobody's":     {"POST", "/v1/machine/" + server("3") + "/reinstall", object{"id": server("3"), "imageid": "ubuntu-24.04.20250701"}, 400, "machine either locked, not allocated yet or invalid image ID specified"},
		"reinstall with an alias":        {"POST", "/v1/machine/" + taken + "/reinstall", object{"id": taken, "imageid": "ubuntu-24.04"}, 404, `error finding image "ubuntu-24.04" for machine "` + taken + `": NotFound no image with id "ubuntu-24.04" found`},
		"reinstall with no image":        {"POST", "/v1/machine/" + taken + "/reinstall", object{"id": taken}, 400, "machine either locked, not allocated yet or invalid image ID specified"},
		"reinstall what is locked":       {"POST", "/v1/machine/" + locked + "/reinstall", object{"id": locked, "imageid": "ubuntu-24.04.20250701"}, 400, "machine either locked, not allocated yet or invalid image ID specified"},
		"delete what is alive":           {"DELETE", "/v1/machine/" + server("3"), nil, 422, "can only delete dead machines, if you power off this machine it will reach dead state."},
		"delete what is unknown":         {"DELETE", "/v1/machine/" + unknownID, nil, 404, `NotFound no machine with id "` + unknownID + `" found`},
		"power of what is unknown":       {"POST", "/v1/machine/" + unknownID + "/power/on", object{}, 404, `NotFound no machine with id "` + unknownID + `" found`},
		// Networks.
		"network of no project":                 {"POST", "/v1/network/allocate", object{}, 400, "projectid should not be empty"},
		"network of an unknown project":         {"POST", "/v1/network/allocate", object{"projectid": unknownID, "partitionid": "nope"}, 404, noProject},
		"network with a destination":            {"POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": "fra-01", "destinationprefixes": []any{"x"}}, 400, `given prefix x is not a valid ip with mask: given cidr x is not a valid ip with mask: netip.ParsePrefix("x"): no '/'`},
		"network of a family":                   {"POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": "fra-01", "addressfamily": "IPv5"}, 400, `addressfamily is invalid given addressfamily:"IPv5" is invalid`},
		"network of a length":                   {"POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": "fra-01", "length": object{"x": 26}}, 400, `addressfamily of length is invalid given addressfamily:"x" is invalid`},
		"network of a length beyond all bounds": {"POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": "fra-01", "length": object{"IPv4": 300}}, 400, "json: cannot unmarshal number 300 into Go struct field NetworkAllocateRequest.length of type uint8"},
		"network of IPv6 too short":             {"POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": "fra-01", "addressfamily": "IPv6", "length": object{"IPv6": 64}}, 422, "cannot allocate free child prefix in ipam: error creating new prefix from:2001:db8:0:10::/64 in ipam: invalid_argument: given length:64 must be greater than prefix length:64"},
		"network find of a destination":         {"POST", "/v1/network/find", object{"destinationprefixes": []any{"x"}}, 400, `netip.ParsePrefix("x"): no '/'`},
		"network find of two mistakes":          {"POST", "/v1/network/find", object{"prefixes": []any{"x", "y"}}, 400, "netip.ParsePrefix(\"x\"): no '/'\nnetip.ParsePrefix(\"y\"): no '/'"},
		"free of what has no parent":            {"DELETE", "/v1/network/free/internet-fra-01", nil, 422, `error releasing child prefix in ipam: invalid_argument: NotFound: unable to find prefix for cidr:"" error:netip.ParsePrefix(""): no '/'`},
		"delete of a network with an address":   {"DELETE", "/v1/network/internet-fra-01", nil, 422, "unable to delete network: prefix 203.0.113.128/25 has ip 203.0.113.140 in use"},
		"delete of an unknown network":          {"DELETE", "/v1/network/nope", nil, 404, `NotFound no network with id "nope" found`},
		"child length of a child":               {"POST", "/v1/network", object{"id": net, "defaultchildprefixlength": object{"IPv4": 26}}, 422, "defaultchildprefixlength can only be set on privatesuper"},
		"announcable of a child":                {"POST", "/v1/network", object{"id": net, "additionalAnnouncableCIDRs": []any{"10.0.0.0/8"}}, 422, "additionalannouncablecidrs can only be set in a private super network"},
		// Addresses.
		"address of no network":                {"POST", "/v1/ip/allocate", object{}, 400, "networkid should not be empty"},
		"address of no project":                {"POST", "/v1/ip/allocate", object{"networkid": "nope"}, 400, "projectid should not be empty"},
		"address of an unknown project":        {"POST", "/v1/ip/allocate", object{"networkid": "internet-fra-01", "projectid": unknownID}, 404, noProject},
		"the network comes before the project": {"POST", "/v1/ip/allocate", object{"networkid": "nope", "projectid": unknownID}, 404, `NotFound no network with id "nope" found`},
		"address of a family":                  {"POST", "/v1/ip/allocate", object{"networkid": "internet-fra-01", "projectid": projectA, "addressfamily": "x"}, 422, `given addressfamily:"x" is invalid`},
		"the network's own address":            {"POST", "/v1/ip/allocate/203.0.113.128", object{"networkid": "internet-fra-01", "projectid": projectA}, 409, "Conflict ip already allocated"},
		"the broadcast address":                {"POST", "/v1/ip/allocate/203.0.113.255", object{"networkid": "internet-fra-01", "projectid": projectA}, 409, "Conflict ip already allocated"},
		"an IPv6 address elsewhere":            {"POST", "/v1/ip/allocate/2001:db8::1", object{"networkid": "internet-fra-01", "projectid": projectA}, 422, "specific ip not contained in any of the defined prefixes"},
		"an address of the super network":      {"POST", "/v1/ip/allocate", object{"networkid": "tenant-super-network-fra-01", "projectid": projectA}, 422, "cannot allocate ip in prefix 10.0.0.0/16 in ipam: invalid_argument: prefix 10.0.0.0/16 has childprefixes, acquire ip not possible"},
		"update of an unknown address":         {"POST", "/v1/ip", object{"ipaddress": "1.2.3.4"}, 404, `NotFound no ip with id "1.2.3.4" found`},
		"from static to ephemeral":             {"POST", "/v1/ip", object{"ipaddress": "203.0.113.140", "type": "ephemeral"}, 400, "cannot change type of ip address from static to ephemeral"},
		// Projects.
		"project of no tenant":         {"PUT", "/v1/project", object{}, 400, "no tenant given"},
		"project that is there":        {"PUT", "/v1/project", object{"meta": object{"id": projectA}, "name": "x", "tenant_id": "acme"}, 409, "rpc error: code = AlreadyExists desc = an entity of type:project with the id:" + projectA + " already exists"},
		"project of another tenant":    {"POST", "/v1/project", object{"meta": object{"id": projectA}, "name": "x", "tenant_id": "metal-stack"}, 422, "rpc error: code = InvalidArgument desc = update tenant of project:" + projectA + " is not allowed"},
		"project without an id":        {"POST", "/v1/project", object{"meta": object{}, "name": "x", "tenant_id": "acme"}, 404, "rpc error: code = NotFound desc = project with id: not found sql: no rows in result set"},
		"delete of an unknown project": {"DELETE", "/v1/project/" + unknownID, nil, 404, noProject},
		"delete of one with machines":  {"DELETE", "/v1/project/" + projectA, nil, 400, "there are still machines allocated by this project"},
		"delete of one with networks":  {"DELETE", "/v1/project/" + projectB, nil, 400, "there are still networks allocated by this project"},
		"an unknown tenant":            {"GET", "/v1/tenant/nope", nil, 404, "rpc error: code = NotFound desc = tenant with id:nope not found sql: no rows in result set"},
		// The catalogue.
		"an unknown partition":             {"GET", "/v1/partition/x", nil, 404, `NotFound no partition with id "x" found`},
		"the capacity of an unknown one":   {"POST", "/v1/partition/capacity", object{"id": "x"}, 400, `NotFound no partition with id "x" found`},
		"an image's form":                  {"GET", "/v1/image/x/latest", nil, 404, "NotFound no image for id:x found:invalid format for os image, expected <os>-<major>.<minor>[.<patch>]: x"},
		"a query of an image's form":       {"GET", "/v1/image/x/query", nil, 404, "NotFound no images for id:x found:invalid format for os image, expected <os>-<major>.<minor>[.<patch>]: x"},
		"what is no answer to show-usage":  {"GET", "/v1/image?show-usage=x", nil, 400, `strconv.ParseBool: parsing "x": invalid syntax`},
		"an address by the old way":        {"POST", "/v1/ip/free/203.0.113.140", nil, 405, "405: Method Not Allowed"},
		"an image in use":                  {"DELETE", "/v1/image/ubuntu-24.04.20260101", nil, 422, ""},
		"a layout":                         {"GET", "/v1/filesystemlayout/x", nil, 404, `NotFound no filesystemlayout with id "x" found`},
		"a reservation of what is unknown": {"DELETE", "/v1/size/reservations/x", nil, 404, `NotFound no sizereservation with id "x" found`},
		// The router.
		"no such route":       {"GET", "/v1/machine/" + taken + "/nope", nil, 404, "404: Page Not Found"},
		"no such path":        {"GET", "/v2/machine", nil, 404, "404: Page Not Found"},
		"no such method":      {"PUT", "/v1/machine/find", object{}, 405, "405: Method Not Allowed"},
		"JSON that stops":     {"POST", "/v1/ip/find", `{"tags":[`, 400, "unexpected EOF"},
		"what is no JSON":     {"POST", "/v1/network/find", `x`, 400, "invalid character 'x' looking for beginning of value"},
		"a list for a filter": {"POST", "/v1/network/find", `[]`, 400, "json: cannot unmarshal array into Go value of type datastore.NetworkSearchQuery"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, message := r.try(t, tc.method, tc.path, tc.body)
			assert.Equal(t, tc.status, status, message)
			if tc.message != "" {
				assert.Equal(t, tc.message, message)
			}
		})
	}
}

// TestReplay_AccessRules: view may read, edit may allocate and free, only admin
// may change what is there.
func TestReplay_AccessRules(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	const (
		edit  = "you are not member in one of [k8s_kaas-edit maas-all-all-edit k8s_kaas-admin maas-all-all-admin]"
		admin = "you are not member in one of [k8s_kaas-admin maas-all-all-admin]"
	)
	for _, tc := range []struct {
		method, path, refusal string
	}{
		{"GET", "/v1/machine", ""},
		{"POST", "/v1/machine/find", ""},
		{"POST", "/v1/network/find", ""},
		{"POST", "/v1/ip/find", ""},
		{"POST", "/v1/project/find", ""},
		{"GET", "/v1/image", ""},
		{"POST", "/v1/machine/allocate", edit},
		{"POST", "/v1/firewall/allocate", edit},
		{"POST", "/v1/network/allocate", edit},
		{"POST", "/v1/ip/allocate", edit},
		{"POST", "/v1/ip", edit},
		{"DELETE", "/v1/ip/free/x", edit},
		{"DELETE", "/v1/machine/x/free", edit},
		{"DELETE", "/v1/network/free/x", edit},
		{"POST", "/v1/machine", admin},
		{"POST", "/v1/network", admin},
		{"PUT", "/v1/project", admin},
		{"POST", "/v1/project", admin},
		{"DELETE", "/v1/project/x", admin},
		{"DELETE", "/v1/machine/x", admin},
		{"DELETE", "/v1/image/x", admin},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			t.Parallel()
			for user, refused := range map[string]bool{
				"Metal-View": tc.refusal != "", "Metal-Edit": tc.refusal == admin, "Metal-Admin": false,
			} {
				got := r.send(t, request{user: user, method: tc.method, path: tc.path, body: object{}})
				if !refused {
					assert.NotEqual(t, http.StatusForbidden, got.status, user)
					continue
				}
				assert.Equal(t, http.StatusForbidden, got.status, user)
				assert.Contains(t, string(got.body), tc.refusal)
			}
		})
	}
}
