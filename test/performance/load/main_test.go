// SPDX-License-Identifier: Apache-2.0

// Package load shows what a server bears: clients that watch and write for as
// long as a flag says, among them some that do not read what they asked for, over
// a metal-api that stumbles; and a thousand claims that want metal at once.
//
// The server is the program itself, so that its memory and its goroutines are
// nobody else's. The simulator and the clients live in the test's process.
// docs/load.md holds the figures and says how to get them.
package load

import (
	"flag"
	"os"
	"testing"
	"time"

	"metal-stack.io/infrastructure-apiserver/test/framework/standalone"
)

// The defaults are for CI; `make load` asks for the whole.
var (
	duration   = flag.Duration("load.duration", 30*time.Second, "how long clients write and watch")
	objects    = flag.Int("load.objects", 1000, "MetalStackMachines that are there, in ten namespaces")
	watchers   = flag.Int("load.watchers", 20, "clients that watch, one in four of them all namespaces")
	slow       = flag.Int("load.slow", 4, "clients more that watch and do not read, in every other eighth of the time")
	writers    = flag.Int("load.writers", 10, "clients that write; one in ten allocates and releases")
	writeRate  = flag.Float64("load.rate", 20, "writes a second of all writers together; allocations do not count")
	seed       = flag.Uint64("load.seed", 1, "where everything random comes from, but the order of what is concurrent")
	claims     = flag.Int("load.claims", defaultClaims, "claims that want metal at once")
	claimCosts = flag.Bool("load.claim-costs", false, "let the metal-api take its time for them, in a fleet of 10,000 machines: some four minutes")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(standalone.Main(m, raceFlags...))
}
