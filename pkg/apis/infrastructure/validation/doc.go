// Package validation says what is wrong with an object, by looking at nothing
// but the object: no catalogue, no project, no clock. An error names the field,
// the value, and what would be right.
//
// An update that leaves the spec alone is never refused for what the spec says:
// a rule that was made after an object must not keep controllers from writing
// its metadata, nor a finalizer from coming off.
package validation
