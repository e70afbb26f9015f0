// SPDX-License-Identifier: Apache-2.0

// Package metalapi serves the part of the metal-api's REST interface that one cluster is
// given, so that metal-ccm, metalctl and every client of metal-go can work with it: its
// machines, the addresses of its project, the networks that it may use, and what there is
// of sizes, images and partitions. It allocates, changes and frees addresses of Services.
//
// A route is a row of a table, routes, and an answer has only the fields of a type of this
// package. It has no user data, no console password, no BMC data and no usage of others.
package metalapi
