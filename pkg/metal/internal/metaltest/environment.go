// SPDX-License-Identifier: Apache-2.0

package metaltest

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// URL is the metal-api's URL for clients of an Environment.
const URL = "http://metal-api.test"

// Environment is a simulator, and the transport to it.
type Environment struct {
	Simulator *simulator.Simulator
	Transport *Transport

	cleanups []func()
}

// Config says what an Environment is like.
type Config struct {
	// Machines is how many there are; default 8.
	Machines int
	// Costs makes calls take as long as those of a real metal-api. It overrides
	// Simulator.Costs.
	Costs     bool
	Simulator simulator.Config
}

// Run runs a test in a synctest bubble.
func Run(t *testing.T, cfg Config, test func(t *testing.T, e *Environment)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Machines == 0 {
			cfg.Machines = 8
		}
		cfg.Simulator.Costs, cfg.Simulator.Compact = cfg.Costs, true
		cfg.Simulator.DataCentre = simulator.DefaultDataCentre(cfg.Machines)
		sim, err := simulator.New(cfg.Simulator)
		require.NoError(t, err)
		e := &Environment{Simulator: sim, Transport: &Transport{Handler: sim.Handler()}}
		// Runs last: lets goroutines in flight end, as synctest demands. The simulator
		// and everything registered with Cleanup are stopped before, so that they do
		// not run on during the sleep.
		defer time.Sleep(10 * time.Minute)
		defer func() {
			for _, f := range slices.Backward(e.cleanups) {
				f()
			}
		}()
		defer sim.Close()
		test(t, e)
	})
}

// Cleanup has f called when the test has ended, within its bubble.
func (e *Environment) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }
