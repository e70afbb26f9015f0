// SPDX-License-Identifier: Apache-2.0

// Package controller has the reconcilers of the controller manager. They call the
// allocation subresource: to allocate metal when all that an object needs exists,
// and to release it when the object is deleted and nothing holds the release.
//
// A reconcile is a list of small phases over one reconciliation. Each checks one thing, and
// lets the next one run, or says what is waited for. Conditions are computed from
// their results in one place (conditions.go), and each change is an Event.
//
// Reconcilers use the API only, keep no state that a restart would lose, and never
// conclude anything from an object's absence in a cache. Metal is allocated in one
// place (allocate.go) and released in one (release.go).
package controller
