// SPDX-License-Identifier: Apache-2.0

// Package observation keeps facts about metal by reading the metal-api: in sweeps
// of everything, by focus on what is in transition, and in refreshes that reads
// wait for. A budget bounds for how much of the time it keeps the metal-api busy.
// It changes no metal, and knows nothing of Kubernetes or of the protocol of a
// backend.
package observation
