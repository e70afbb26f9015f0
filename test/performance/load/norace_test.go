// SPDX-License-Identifier: Apache-2.0

//go:build !race

package load

var raceFlags []string

const defaultClaims = 1000
