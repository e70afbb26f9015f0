// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/metal-lib/pkg/tag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Announcements are what metal-ccm configures MetalLB with.
type Announcements struct {
	// Peers are the ASNs of the Nodes that announce, by name.
	Peers map[string]int64
	// Pools are the addresses that are announced, by network and type.
	Pools map[string][]string
}

// Announcements returns what was last configured.
func (c *Controller) Announcements() Announcements {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.announcements
}

// syncAnnouncements configures what all Nodes announce.
func (c *Controller) syncAnnouncements(ctx context.Context) error {
	list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("failed to list nodes: %w", err)
	}
	var nodes []*corev1.Node
	for i := range list.Items {
		nodes = append(nodes, &list.Items[i])
	}
	return c.announce(ctx, nodes)
}

// announce configures what Nodes announce. All of them need the label with their ASN.
func (c *Controller) announce(ctx context.Context, nodes []*corev1.Node) error {
	ips, err := c.cloud.clusterIPs(ctx)
	if err != nil {
		return fmt.Errorf("could not find ips of this project's cluster: %w", err)
	}
	a := Announcements{Peers: map[string]int64{}, Pools: map[string][]string{}}
	for _, ip := range ips {
		if ip.Networkid == nil || ip.Ipaddress == nil {
			return fmt.Errorf("ip has no network id or address: %v", ip)
		}
		if !slices.Contains(c.Environment.Networks, *ip.Networkid) {
			c.Logf("skipping ip %q: not part of cluster networks", *ip.Ipaddress)
			continue
		}
		pool := strings.ToLower(*ip.Networkid) + "-" + models.V1IPBaseTypeEphemeral
		if ip.Type != nil && *ip.Type == models.V1IPBaseTypeStatic {
			pool = strings.ToLower(*ip.Networkid) + "-" + models.V1IPBaseTypeStatic
		}
		a.Pools[pool] = append(a.Pools[pool], *ip.Ipaddress)
	}
	for _, node := range nodes {
		text, found := node.Labels[tag.MachineNetworkPrimaryASN]
		if !found {
			return fmt.Errorf("node %q misses label: %s", node.Name, tag.MachineNetworkPrimaryASN)
		}
		asn, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("unable to parse valid integer from asn annotation: %w", err)
		}
		if _, found := internalIP(node); found {
			a.Peers[node.Name] = asn
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announcements = a
	return nil
}
