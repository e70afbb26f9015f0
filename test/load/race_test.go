//go:build race

package load

// raceFlags build the server as the test is built: its data races are wanted, too.
var raceFlags = []string{"-race"}
