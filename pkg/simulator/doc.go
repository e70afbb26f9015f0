// SPDX-License-Identifier: Apache-2.0

// Package simulator is a metal-api to build, demonstrate, test and measure
// against: the REST surface that this project uses, with the real one's
// answers, errors, quirks and, when asked for, answer times, over an
// in-memory data centre.
//
// Numbers in parentheses such as (205) in the comments of this package are
// the recordings of a real metal-api that a rule was taken from, those of
// testdata/exchanges, and (2/226) one of testdata/exchanges-2. Not all of them
// are kept there. docs/metal-api.md says what they teach.
package simulator
