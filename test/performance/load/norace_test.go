//go:build !race

package load

var raceFlags []string

const defaultClaims = 1000
