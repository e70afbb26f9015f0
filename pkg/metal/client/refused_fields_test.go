// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Refusals about each field, and about none, are recorded.
func TestRefusedField_RecordedRefusals(t *testing.T) {
	t.Parallel()
	seen := map[metal.RequestField]int{}
	for _, r := range recorded(t) {
		message := errorMessage(bytes.NewReader(r.Body))
		if r.Status/100 == 2 || r.classOf()&classAllocate == 0 || classify(r.classOf(), r.Status, message) != metal.Refused {
			continue
		}
		seen[refusedField(r.classOf(), message)]++
	}
	for _, field := range []metal.RequestField{
		metal.FieldProject, metal.FieldPartition, metal.FieldSize, metal.FieldImage, metal.FieldSSHKeys, metal.FieldNetworks, metal.FieldRules,
		metal.FieldLengths, metal.FieldAddressFamily, "",
	} {
		assert.Positive(t, seen[field], "no recorded refusal is about field %q", field)
	}
}

func TestRefusedField_Messages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		class   class
		message string
		want    metal.RequestField
	}{
		{classAllocateMachine, "NotFound no image for id:ubuntu-99.04 found:no image for os:ubuntu version:99.4.0 found", metal.FieldImage},
		{classAllocateMachine, "given image is not usable for a firewall, features: machine", metal.FieldImage},
		{classAllocateMachine, `NotFound no size with id "nope" found`, metal.FieldSize},
		{classAllocateMachine, `partition:nope not found err:NotFound no partition with id "nope" found`, metal.FieldPartition},
		{classAllocateNetwork, `NotFound no partition with id "nope" found`, metal.FieldPartition},
		{classAllocateMachine, "invalid public SSH key: garbage error:ssh: no key found", metal.FieldSSHKeys},
		{classAllocateMachine, "egress rule with error:port is out of range", metal.FieldRules},
		{classAllocateMachine, "unable to gather networks:no private network given", metal.FieldNetworks},
		{classAllocateIP, `NotFound no network with id "nope" found`, metal.FieldNetworks},
		{classAllocateNetwork, "rpc error: code = NotFound desc = project with id:p not found sql: no rows in result set", metal.FieldProject},
		{classAllocateNetwork, "cannot allocate free child prefix in ipam: error creating new prefix from:10.0.0.0/16 in ipam: invalid_argument: given length:8 must be greater than prefix length:16", metal.FieldLengths},
		{classAllocateNetwork, `addressfamily of length is invalid given addressfamily:"IPv9" is invalid`, metal.FieldLengths},
		{classAllocateNetwork, "addressfamily IPv6 specified, but no childprefixlength for this addressfamily", metal.FieldAddressFamily},
		{classAllocateNetwork, "cannot allocate free child prefix in one of the given parent prefixes in ipam: [10.0.0.0/16]", ""},
		{classAllocateMachine, "no machine available", ""},
		{classAllocateMachine, "project quota for machines reached max:1", ""},
		{classAllocateMachine, "unable to check for fsl match:device:/dev/nvme0n1 does not exist on given hardware", ""},
		{classFree, "machine is locked", ""},
		{classReinstall, `error finding image "nope" for machine "m": NotFound no image with id "nope" found`, metal.FieldImage},
		{classReadSecret, "reason must be at least 10 characters long", metal.FieldReason},
	} {
		assert.Equal(t, test.want, refusedField(test.class, test.message), test.message)
	}
}
