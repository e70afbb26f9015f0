// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// client calls the metal-api past all faults, with the servers' key.
func (env *environment) client() *metalclient.Client {
	client, err := metalclient.New(metalclient.Options{URL: "http://metal-api.test", HMAC: editKey, Transport: &wire{handler: env.sim.Handler(), ctx: context.Background()}})
	require.NoError(env.t, err)
	return client
}

// allocateServiceAddress allocates an address for a Service of the cluster c0, as its
// metal-ccm does; the address is empty if the cluster is not allocated or is being deleted.
func (env *environment) allocateServiceAddress(kind, service string) (address string, err error) {
	found, err := env.find(clusters, "c0")
	if err != nil || found == nil || found.GetDeletionTimestamp() != nil {
		return "", err
	}
	c := found.(*infrastructure.MetalStackCluster)
	if c.Status.Allocation == nil || c.Status.Allocation.Phase != infrastructure.AllocationAllocated {
		return "", nil
	}
	ip, err := env.client().AllocateIP(context.Background(), metal.IPRequest{
		Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: kind, Name: "metallb",
		Tags: []string{serviceTag(found, service)},
	})
	if err != nil {
		return "", err
	}
	env.note("metal-ccm of c0 allocates the %s address %s for %s", kind, ip.Address, service)
	return ip.Address, nil
}

// requestServiceAddress asks the active server for an address, as metal-ccm does; it
// returns why there is none yet.
func (env *environment) requestServiceAddress(service string) string {
	s := env.active()
	if s == nil {
		return "no server answers"
	}
	found, err := env.find(clusters, "c0")
	if err != nil || found == nil {
		return fmt.Sprintf("the cluster c0 is not there: %v", err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	_, err = s.protocol.AllocateServiceAddress(ctx, types.NamespacedName{Namespace: found.GetNamespace(), Name: "c0"}, metal.IPRequest{
		Network: simulator.InternetNetwork, Type: metal.TypeEphemeral, Name: "metallb", Tags: []string{serviceTag(found, service)},
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

func serviceTag(cluster metav1.Object, service string) string {
	return metal.Tag(metal.TagService, infrastructure.ClusterID(cluster.(*infrastructure.MetalStackCluster))+"/default/"+service)
}

// addressesFor are the addresses of a Service.
func (env *environment) addressesFor(service string) (addresses []string) {
	for _, ip := range env.sim.Inventory().IPs {
		if slices.ContainsFunc(ip.Tags, func(tag string) bool {
			return strings.HasPrefix(tag, metal.TagService+"=") && strings.HasSuffix(tag, "/"+service)
		}) {
			addresses = append(addresses, ip.Address)
		}
	}
	return addresses
}

// allocatesServiceAddresses adds what metal-ccm does to a history. It has dice of its own,
// so that all else in a history is what it is without it.
func (h *history) allocatesServiceAddresses() {
	d := &dice{rand.New(rand.NewPCG(h.seed, 0x736572766963))}
	end := h.steps[len(h.steps)-1].at
	for n := range d.IntN(4) {
		kind, service := pick(d, metal.TypeEphemeral, metal.TypeEphemeral, metal.TypeStatic), fmt.Sprintf("web-%d", n)
		h.steps = append(h.steps, step{time.Duration(d.Int64N(int64(end))), "metal-ccm allocates for " + service,
			background(func(env *environment) error {
				_, err := env.allocateServiceAddress(kind, service)
				return err
			})})
	}
	slices.SortStableFunc(h.steps, func(a, b step) int { return int(a.at - b.at) })
}

// serviceTagLeft returns an address that still carries the tag of a Service; once no
// cluster is left, none should.
func (env *environment) serviceTagLeft() string {
	for _, ip := range env.sim.Inventory().IPs {
		for _, tag := range ip.Tags {
			if strings.HasPrefix(tag, metal.TagService+"=") {
				return fmt.Sprintf("the address %s is left with the tag %s", ip.Address, tag)
			}
		}
	}
	return ""
}
