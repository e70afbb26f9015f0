// SPDX-License-Identifier: Apache-2.0

// Package metal holds what is known of metal, as values: machines, networks and
// addresses, the identity that they carry, what can be asked for, and what a
// failed call means. Backend is the one way to the metal-api; pkg/metal/client is
// the one that there is. This package links neither a client of the metal-api nor
// an API server, and knows nothing of Kubernetes objects.
package metal
