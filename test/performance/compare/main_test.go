// SPDX-License-Identifier: Apache-2.0

// Package compare measures our server beside custom resources of the same
// content: both are served by one kube-apiserver, ours through an APIService
// and the others from a CustomResourceDefinition. The measures alternate
// between the two. The report has medians, spreads, ratios and goals.
//
// The server is the program itself, with the flags of an installation. The
// simulator, which takes as long to answer as a real metal-api, and the clients
// live in the test's process. docs/benchmarks.md says how to run it.
package compare

import (
	"flag"
	"os"
	"testing"
	"time"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// `make bench-compare` says what to measure. Without that nothing is started.
var (
	objects     = flag.Int("compare.objects", 0, "MetalStackMachines of each kind, all with a machine in the data centre; 0 measures nothing")
	only        = flag.String("compare.only", ".", "regular expression of the measures to take")
	repetitions = flag.Int("compare.repetitions", 1, "how often each measure is taken, alternating between the kinds")
	watchers    = flag.Int("compare.watchers", 100, "clients that watch all objects while others are written")
	writing     = flag.Duration("compare.writing", 20*time.Second, "how long is written for the watchers, each time")
	resting     = flag.Duration("compare.resting", 5*time.Minute, "how long the programs get no requests for the measure of their CPU at rest")
	loading     = flag.Duration("compare.load", 0, "how long all watchers of both kinds together are under load, slow ones among them; 0 for no load")
	slice       = flag.Duration("compare.slice", 5*time.Minute, "how long one kind is under load before it is the other's turn")
	slow        = flag.Int("compare.slow", 40, "how many of the watchers read at a crawl under load")
	rate        = flag.Int("compare.rate", 50, "writes a second under load")
	sizes       = flag.String("compare.sizes", "", "sizes of the fleets, separated by commas, with which growth is measured; empty measures nothing")
	markdown    = flag.String("compare.markdown", "", "file for the table as Markdown")
)

// minObjects is how many objects there are at least: the namespaces have parts of
// them.
const minObjects = 8

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(cluster.Main(m))
}
