// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func network(spec infrastructure.MetalStackNetworkSpec) *infrastructure.MetalStackNetwork {
	return &infrastructure.MetalStackNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "n", ResourceVersion: "1"}, Spec: spec}
}

func address(spec infrastructure.MetalStackIPSpec) *infrastructure.MetalStackIP {
	return &infrastructure.MetalStackIP{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "i", ResourceVersion: "1"}, Spec: spec}
}

func fieldsOf(errs field.ErrorList) (fields []string) {
	for _, err := range errs {
		fields = append(fields, err.Field)
	}
	return fields
}

func TestValidateNetwork(t *testing.T) {
	t.Parallel()
	valid := infrastructure.MetalStackNetworkSpec{Partition: "fra-01"}
	assert.Empty(t, ValidateNetwork(network(valid)))
	uuid := network(valid)
	uuid.Name = "10000000-0000-4000-8000-00000000000a"
	assert.Equal(t, []string{"metadata.name"}, fieldsOf(ValidateNetwork(uuid)))
	assert.Equal(t, []string{"spec.partition"}, fieldsOf(ValidateNetwork(network(infrastructure.MetalStackNetworkSpec{}))))
	assert.Equal(t, []string{"spec.addresses.prefixLengths.ipv4"}, fieldsOf(ValidateNetwork(network(infrastructure.MetalStackNetworkSpec{
		Partition: "fra-01", Addresses: &infrastructure.PrivateNetwork{PrefixLengths: infrastructure.PrefixLengths{IPv4: 31}},
	}))))
	both := network(infrastructure.MetalStackNetworkSpec{Partition: "fra-01", Addresses: &infrastructure.PrivateNetwork{}, NetworkID: "n"})
	assert.Equal(t, []string{"spec.addresses"}, fieldsOf(ValidateOneClaimedNetwork(both)))
}

func TestValidateNetworkUpdate(t *testing.T) {
	t.Parallel()
	old := network(infrastructure.MetalStackNetworkSpec{Partition: "fra-01"})
	changed := func(change func(*infrastructure.MetalStackNetwork)) *infrastructure.MetalStackNetwork {
		n := old.DeepCopy()
		change(n)
		return n
	}
	named := changed(func(n *infrastructure.MetalStackNetwork) { n.Spec.NetworkID = "net" })
	assert.Empty(t, ValidateNetworkUpdate(named, old))
	assert.Equal(t, []string{"spec.networkID"}, fieldsOf(ValidateNetworkUpdate(changed(func(n *infrastructure.MetalStackNetwork) { n.Spec.NetworkID = "other" }), named)))
	assert.Equal(t, []string{"spec.partition"}, fieldsOf(ValidateNetworkUpdate(changed(func(n *infrastructure.MetalStackNetwork) { n.Spec.Partition = "muc-01" }), old)))
	begun := changed(func(n *infrastructure.MetalStackNetwork) {
		n.Status.Allocation = &infrastructure.NetworkAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocating}}
	})
	assert.Equal(t, []string{"spec.networkID"}, fieldsOf(ValidateNetworkUpdate(named, begun)))
}

func TestValidateIP(t *testing.T) {
	t.Parallel()
	for spec, fields := range map[infrastructure.MetalStackIPSpec][]string{
		{NetworkID: "internet"}: nil,
		{NetworkID: "internet", Address: "203.0.113.7", AddressFamily: "IPv4"}: nil,
		{NetworkID: "internet", Address: "2001:db8::7"}:                        nil,
		{}: {"spec.networkID"},
		{NetworkID: "internet", AddressFamily: "IPv5"}:                         {"spec.addressFamily"},
		{NetworkID: "internet", Address: "2001:DB8::7"}:                        {"spec.address"},
		{NetworkID: "internet", Address: "127.0.0.1"}:                          {"spec.address"},
		{NetworkID: "internet", Address: "203.0.113.0/24"}:                     {"spec.address"},
		{NetworkID: "internet", Address: "203.0.113.7", AddressFamily: "IPv6"}: {"spec.address"},
	} {
		assert.Equal(t, fields, fieldsOf(ValidateIP(address(spec))), "%+v", spec)
	}
	named := address(infrastructure.MetalStackIPSpec{NetworkID: "internet"})
	named.Name = "203.0.113.7"
	assert.Equal(t, []string{"metadata.name"}, fieldsOf(ValidateIP(named)))
}

func TestValidateIPUpdate(t *testing.T) {
	t.Parallel()
	old := address(infrastructure.MetalStackIPSpec{NetworkID: "internet"})
	named := address(infrastructure.MetalStackIPSpec{NetworkID: "internet", Address: "203.0.113.7"})
	assert.Empty(t, ValidateIPUpdate(named, old))
	assert.Equal(t, []string{"spec.address"}, fieldsOf(ValidateIPUpdate(address(infrastructure.MetalStackIPSpec{NetworkID: "internet", Address: "203.0.113.8"}), named)))
	assert.Equal(t, []string{"spec.networkID"}, fieldsOf(ValidateIPUpdate(address(infrastructure.MetalStackIPSpec{NetworkID: "mpls"}), old)))
	assert.Equal(t, []string{"spec.addressFamily"}, fieldsOf(ValidateIPUpdate(address(infrastructure.MetalStackIPSpec{NetworkID: "internet", AddressFamily: "IPv6"}), old)))
	begun := old.DeepCopy()
	begun.Status.Allocation = &infrastructure.IPAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocating}}
	assert.Equal(t, []string{"spec.address"}, fieldsOf(ValidateIPUpdate(named, begun)))
}
