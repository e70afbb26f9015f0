// SPDX-License-Identifier: Apache-2.0

// Package controller is the companion's reconcilers: they turn what users and
// Cluster API want into calls of the allocation subresource, at the right
// moment, and give metal back when an object is deleted and may be released.
//
// A reconcile is a list of small phases over one scope: each looks at one thing
// and lets the next go on, or says what is waited for. What they found becomes
// conditions in one place (conditions.go), and each change of those an Event.
//
// They talk to the API and to nothing else, keep no state that a restart
// would lose, and never conclude anything from an object's absence. Metal is
// asked for in one place (allocate.go) and given back in one (release.go).
package controller
