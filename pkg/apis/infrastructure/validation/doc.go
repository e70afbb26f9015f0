// SPDX-License-Identifier: Apache-2.0

// Package validation validates objects by themselves: without catalogue, project
// or clock. An error names the field, the value, and what is allowed.
//
// An update that does not change the spec is never refused for what the spec says:
// a rule that is newer than an object must not prevent controllers from writing its
// metadata, nor the removal of a finalizer.
package validation
