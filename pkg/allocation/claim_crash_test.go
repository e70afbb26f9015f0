// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// claimUnderTest is a kind of claims in the tests of crashes.
type claimUnderTest struct {
	create            func(env *environment) types.UID
	allocate, release func(env *environment, p *Protocol) error
	// start is allocate while another operation advances the clock.
	start      func(env *environment, p *Protocol) error
	phase      func(env *environment) infrastructure.AllocationPhase
	allocation []string
	freeing    []string
}

func claimsUnderTest() map[string]claimUnderTest {
	address := claimUnderTest{
		create: func(env *environment) types.UID { return env.ip("claim").UID },
		allocate: func(env *environment, p *Protocol) error {
			_, err := env.allocateIP(p, "claim")
			return err
		},
		release: func(env *environment, p *Protocol) error {
			_, err := env.releaseIP(p, "claim")
			return err
		},
		start: func(env *environment, p *Protocol) error {
			_, err := p.AllocateIP(env.context(), teamA, "claim", body(""))
			return err
		},
		phase:      func(env *environment) infrastructure.AllocationPhase { return env.ipPhase("claim") },
		allocation: []string{"address/begun", "address/observed", "address/called", "ip-claim/allocated"},
		freeing:    []string{"ip-claim/releasing", "address/free-begun", "address/free-observed", "address/freed", "ip-claim/released"},
	}
	specific := address
	specific.create = func(env *environment) types.UID { return env.ip("claim", namesAddress("203.0.113.177")).UID }
	return map[string]claimUnderTest{
		"address": address, "specific address": specific,
		"network": {
			create: func(env *environment) types.UID { return env.network("claim").UID },
			allocate: func(env *environment, p *Protocol) error {
				_, err := env.allocateNetwork(p, "claim")
				return err
			},
			release: func(env *environment, p *Protocol) error {
				_, err := env.releaseNetwork(p, "claim")
				return err
			},
			start: func(env *environment, p *Protocol) error {
				_, err := p.AllocateNetwork(env.context(), teamA, "claim", body(""))
				return err
			},
			phase:      func(env *environment) infrastructure.AllocationPhase { return env.networkPhase("claim") },
			allocation: []string{"network/begun", "network/observed", "network/called", "network-claim/allocated"},
			freeing:    []string{"network-claim/releasing", "network/empty", "network/free-begun", "network/free-observed", "network/freed", "network-claim/released"},
		},
	}
}

func TestClaim_ResumedAfterCrash(t *testing.T) {
	t.Parallel()
	for name, c := range claimsUnderTest() {
		for _, step := range c.allocation {
			for _, by := range []string{"request", "recoverer", "release"} {
				t.Run(name+" "+step+" by "+by, func(t *testing.T) {
					t.Parallel()
					env := newEnvironment(t)
					uid := c.create(env)
					reached := env.crashAt(env.p, step, 1)
					require.Error(t, c.allocate(env, env.p))
					require.True(t, reached())
					next := env.newProtocol()
					switch by {
					case "request":
						require.NoError(t, c.allocate(env, next))
					case "recoverer":
						env.reconcileUntil(NewRecoverer(next), func() bool { return c.phase(env) == infrastructure.AllocationAllocated })
					}
					if by != "release" {
						assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(uid)))
					}
					require.NoError(t, c.release(env, next))
					env.requireNothingAllocated()
				})
			}
		}
		for _, step := range c.freeing {
			for _, by := range []string{"request", "recoverer"} {
				t.Run(name+" "+step+" by "+by, func(t *testing.T) {
					t.Parallel()
					env := newEnvironment(t)
					uid := c.create(env)
					require.NoError(t, c.allocate(env, env.p))
					reached := env.crashAt(env.p, step, 1)
					require.Error(t, c.release(env, env.p))
					require.True(t, reached())
					next := env.newProtocol()
					if by == "request" {
						require.NoError(t, c.release(env, next))
					} else {
						env.reconcileUntil(NewRecoverer(next), func() bool { return c.phase(env) == infrastructure.AllocationReleased })
					}
					assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(uid)))
					env.requireNothingAllocated()
				})
			}
		}
	}
}

// Two servers that act at once allocate once.
func TestClaim_TwoServersAllocateOnce(t *testing.T) {
	t.Parallel()
	for name, c := range claimsUnderTest() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			uid := c.create(env)
			second := env.newProtocol()
			begun, resume := pauseAt(env.p, c.allocation[0])
			first := make(chan error, 1)
			go func() { first <- c.start(env, env.p) }()
			<-begun
			require.NoError(t, c.allocate(env, second))
			close(resume)
			require.NoError(t, <-first)
			assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(uid)))
			require.NoError(t, c.release(env, second))
			env.requireNothingAllocated()
		})
	}
}
