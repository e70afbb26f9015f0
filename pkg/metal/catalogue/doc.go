// SPDX-License-Identifier: Apache-2.0

// Package catalogue answers from a cache what the metal-api offers: sizes, images,
// partitions, the networks, machines and addresses that an object may name, and the projects with what is reserved for them. It bounds what lookups cost the metal-api, and changes nothing.
package catalogue
