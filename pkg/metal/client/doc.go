// SPDX-License-Identifier: Apache-2.0

// Package client calls the metal-api: it is the only place that knows its REST
// interface, its credential and its errors. It decides nothing about Kubernetes
// objects, and repeats no call.
package client
