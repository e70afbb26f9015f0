// SPDX-License-Identifier: Apache-2.0

// Package visibility decides which namespaces' objects a user is shown by lists
// and watches: those in which the user may get the resource. It asks the
// authorizer, and knows nothing of projects or bindings.
//
// It must never show anything that the authorizer has not allowed, and without an
// answer it shows nothing.
package visibility
