// Package metal is the port to the metal-api: the only place that knows its
// REST interface, its credential and its errors. It reads (looks, sweeps),
// allocates and frees on behalf of exactly one caller each, and decides
// nothing about Kubernetes objects.
package metal
