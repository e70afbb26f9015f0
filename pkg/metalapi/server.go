// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Cluster is the cluster that a request is for.
type Cluster struct {
	types.NamespacedName
	// ID is the cluster id, Project the project of the namespace.
	ID, Project string
	// Adopted returns the ids of machines that belong to the cluster by their objects, and
	// may lack its tag.
	Adopted func(ctx context.Context) (map[string]bool, error)
}

// Machines are the machines as they were observed.
type Machines interface {
	// Machine returns a machine, nil unless it is Present.
	Machine(id string) (*metal.Machine, metal.Presence)
	// AllocatedIn returns the machines and firewalls of a project.
	AllocatedIn(project string) []*metal.Machine
}

// Backend reads what is not observed.
type Backend interface {
	FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error)
	ListNetworks(ctx context.Context) ([]*metal.Network, error)
	ListSizes(ctx context.Context) ([]*metal.Size, error)
	ListImages(ctx context.Context) ([]*metal.Image, error)
	ListPartitions(ctx context.Context) ([]*metal.Partition, error)
}

// Addresses changes addresses of Services; pkg/allocation implements it. Its errors are
// *metal.Error.
type Addresses interface {
	AllocateServiceAddress(ctx context.Context, cluster types.NamespacedName, r metal.IPRequest) (*metal.IP, error)
	SetServicesOfAddress(ctx context.Context, cluster types.NamespacedName, address string, tags []string) (*metal.IP, error)
	FreeServiceAddress(ctx context.Context, cluster types.NamespacedName, address string) (*metal.IP, error)
	// HoldsNetwork reports whether a MetalStackNetwork of the namespace holds a network, so that
	// it is for several clusters.
	HoldsNetwork(ctx context.Context, namespace, networkID string) (bool, error)
}

// How old answers may be that are not observed. A write through this package makes the
// addresses of its project be read anew. While the budget of addresses is spent, they may be
// older.
const (
	addressTTL   = 10 * time.Second
	inventoryTTL = time.Minute
)

// Server answers the requests of all clusters.
type Server struct {
	machines   Machines
	addresses  Addresses
	ips        *projectCaches
	networks   *cachedList[*metal.Network]
	sizes      *cachedList[*metal.Size]
	images     *cachedList[*metal.Image]
	partitions *cachedList[*metal.Partition]
	limits     *limits
}

// NewServer returns a Server; a nil clock is the real one.
func NewServer(machines Machines, backend Backend, addresses Addresses, c clock.Clock) *Server {
	if c == nil {
		c = clock.RealClock{}
	}
	return &Server{
		machines: machines, addresses: addresses,
		ips: newProjectCaches(c, func(ctx context.Context, project string) ([]*metal.IP, error) {
			return backend.FindIPs(ctx, metal.IPQuery{Project: project})
		}),
		networks:   newCachedList(c, inventoryTTL, backend.ListNetworks),
		sizes:      newCachedList(c, inventoryTTL, backend.ListSizes),
		images:     newCachedList(c, inventoryTTL, backend.ListImages),
		partitions: newCachedList(c, inventoryTTL, backend.ListPartitions),
		limits:     newLimits(c),
	}
}

// Handler answers a request for a cluster; path is what comes after the base path, such as
// v1/ip/find.
func (s *Server) Handler(cluster Cluster, path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { s.serve(w, req, cluster, path) })
}

// Refusal answers a request that is for no cluster.
func Refusal(status int, message string, retryAfter time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter > 0 {
			writeError(w, &limitedError{apiError{status, message}, retryAfter})
			return
		}
		writeError(w, &apiError{status, message})
	})
}
