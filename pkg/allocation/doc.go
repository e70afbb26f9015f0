// Package allocation turns claims into metal and metal into nothing, exactly
// once (docs/allocation.md). It is the only caller of the metal-api's
// dangerous verbs: allocate and free.
//
// Every dangerous call lies between two compare-and-swaps of the record, so
// that whoever comes later, after a crash or on another server, knows that it
// may have been made, and looks before it calls. A call belongs to the
// Protocol, not to the request that asked for it. User data goes from the
// request to the metal-api and into nothing else.
package allocation
