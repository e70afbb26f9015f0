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

// URL is what a client of an Environment is given as the metal-api's.
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
	// Costs has calls take as long as a real metal-api's.
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
		cfg.Simulator.Costs = cfg.Costs
		cfg.Simulator.DataCentre = simulator.DefaultDataCentre(cfg.Machines)
		sim, err := simulator.New(cfg.Simulator)
		require.NoError(t, err)
		e := &Environment{Simulator: sim, Transport: &Transport{Handler: sim.Handler()}}
		// Whatever is still in flight comes to its end. What was to be stopped does
		// not go on meanwhile, which would take longer than the test.
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
