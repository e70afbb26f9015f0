// SPDX-License-Identifier: Apache-2.0

package client

import (
	"regexp"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// refusedFields say by its message which field of a request a refusal is about.
// A message that can be about several fields, such as one about the file system
// of an image on the disks of a size, has no row; nor has one that is about no
// field, such as that no machine is available.
var refusedFields = []struct {
	class   class
	message *regexp.Regexp
	field   metal.RequestField
}{
	{classAllocateMachine, pattern(`^NotFound no image (for id:|with id )|^given image is not usable for a |^given size:\S+ with image:\S+ does violate image constraint:`), metal.FieldImage},
	{classReinstall, pattern(`^error finding image `), metal.FieldImage},
	{classReadSecret, pattern(`^reason must be at least \d+ characters long$`), metal.FieldReason},
	{classAllocateMachine, pattern(`^NotFound no size with id |^size:\S* not found err:NotFound |^size cannot be found: NotFound |^when no machine id is given, a size id must be specified$`), metal.FieldSize},
	{classAllocate, pattern(`^NotFound no partition with id |^partition:\S* not found err:NotFound |^partition cannot be found: NotFound |^when no machine id is given, a partition id must be specified$|^partitionid should not be empty$`), metal.FieldPartition},
	{classAllocateMachine, pattern(`^uuid given but no machine found with uuid:|^machine ".*" is not in the requested partition: |^machine ".*" does not have the requested size: `), metal.FieldID},
	{classAllocateMachine, pattern(`^invalid public SSH key: `), metal.FieldSSHKeys},
	{classAllocateMachine, pattern(`^please specify a maximum of \w+ dns servers$|^ip: .* for dns server not correct\b`), metal.FieldDNSServers},
	{classAllocateMachine, pattern(`^please specify a maximum of \w+ ntp servers$|^dns name: .* for ntp server not correct$`), metal.FieldNTPServers},
	{classAllocateMachine, pattern(`^NotFound no filesystemlayout with id `), metal.FieldFilesystemLayout},
	{classAllocateMachine, pattern(`^no such protocol: |^(egress|ingress) rule with error:`), metal.FieldRules},
	{classAllocateMachine, pattern(`^network ids cannot be (nil|empty)$|^missing ip\(s\) for network\(s\) |^unable to gather networks:`), metal.FieldNetworks},
	{classAllocateNetwork, pattern(`^addressfamily of length is invalid |^supernetwork \S+ has no defaultchildprefixlength specified$|` +
		`^cannot allocate free child prefix in ipam: .*\binvalid_argument: (given length:|acquired child prefix:)`), metal.FieldLengths},
	{classAllocateNetwork, pattern(`^addressfamily `), metal.FieldAddressFamily},
	{classAllocateIP, pattern(`^networkid should not be empty$|^NotFound no network with id |^can not allocate ip for project ".*" because network belongs to |^network \S* does not have prefixes configured$`), metal.FieldNetworks},
	{classAllocateIP, pattern(`^specific ip not contained in any of the defined prefixes$|^unable to parse specific ip: `), metal.FieldAddress},
	{classAllocateIP, pattern(`^there is no prefix for the given addressfamily:|^given addressfamily:".*" is invalid$`), metal.FieldAddressFamily},
	{classAllocate, pattern(`^rpc error: code = NotFound desc = project with id:|^project id must be specified$|^projectid should not be empty$`), metal.FieldProject},
}

// refusedField returns the field of the request that a refusal of an operation of
// class c is about; empty if that is not known.
func refusedField(c class, message string) metal.RequestField {
	for _, f := range refusedFields {
		if f.class&c != 0 && f.message.MatchString(message) {
			return f.field
		}
	}
	return ""
}
