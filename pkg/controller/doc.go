// Package controller is the companion's reconcilers: they turn what users and
// Cluster API want into calls of the allocation subresource, at the right
// moment, and give metal back when an object is deleted and may be released.
//
// They talk to the API and to nothing else, keep no state that a restart
// would lose, and never conclude anything from an object's absence. Metal is
// asked for in one place (allocate.go) and given back in one (release.go).
package controller
