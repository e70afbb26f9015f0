// SPDX-License-Identifier: Apache-2.0

//go:build race

package load

// raceFlags build the server as the test is built: its data races are wanted,
// too.
var raceFlags = []string{"-race"}

// defaultClaims are as many as a server bears that is ten times as slow.
const defaultClaims = 200
