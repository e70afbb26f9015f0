// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/metal-stack/metal-go/api/models"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// scheme begins the provider IDs of Nodes.
const scheme = "metal://"

// machineCache keeps each machine for a period. Requests for the same one at the same time
// are all made.
type machineCache struct {
	clock clock.PassiveClock
	cloud *cloud

	mu      sync.Mutex
	entries map[string]machineEntry
}

type machineEntry struct {
	machine *models.V1MachineResponse
	read    time.Time
}

func newMachineCache(c clock.PassiveClock, cloud *cloud) *machineCache {
	return &machineCache{clock: c, cloud: cloud, entries: map[string]machineEntry{}}
}

// ofNode is the machine of a Node: that of its provider ID, or, if it has none yet, the one
// with its name.
func (c *machineCache) ofNode(ctx context.Context, node *corev1.Node) (*models.V1MachineResponse, error) {
	if strings.HasPrefix(node.Spec.ProviderID, scheme) {
		return c.ofProviderID(ctx, node.Spec.ProviderID)
	}
	return c.get("hostname "+node.Name, func() (*models.V1MachineResponse, error) { return c.cloud.machineByHostname(ctx, node.Name) })
}

func (c *machineCache) ofProviderID(ctx context.Context, providerID string) (*models.V1MachineResponse, error) {
	if providerID == "" {
		return nil, errors.New("providerID cannot be empty")
	}
	rest, found := strings.CutPrefix(providerID, scheme)
	if !found {
		return nil, fmt.Errorf("unexpected providerID format %q", providerID)
	}
	id := rest[strings.LastIndex(rest, "/")+1:]
	return c.get("id "+id, func() (*models.V1MachineResponse, error) { return c.cloud.machine(ctx, id) })
}

func (c *machineCache) get(key string, fetch func() (*models.V1MachineResponse, error)) (*models.V1MachineResponse, error) {
	c.mu.Lock()
	entry, found := c.entries[key]
	c.mu.Unlock()
	if found && c.clock.Since(entry.read) < period {
		return entry.machine, nil
	}
	read := c.clock.Now()
	m, err := fetch()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[key] = machineEntry{m, read}
	return m, nil
}
