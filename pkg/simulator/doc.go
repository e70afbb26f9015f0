// Package simulator is a metal-api to build, demonstrate, test and measure
// against: the REST surface that this project uses, with the real one's
// answers, errors, quirks and, when asked for, answer times, over an
// in-memory data centre.
//
// Numbers in parentheses such as (205) in the comments of this package are
// the recordings of a real metal-api that a rule was taken from; "README"
// is the page beside them.
package simulator
