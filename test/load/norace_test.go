//go:build !race

package load

var raceFlags []string
