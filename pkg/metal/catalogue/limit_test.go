// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func limitedLookup(ctx context.Context, c *Catalogue, i int) error {
	_, _, err := c.LookupAddress(ctx, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), simulator.ProjectA)
	return err
}

func TestLookupLimits_PerRequest(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		ctx := c.WithAllowance(t.Context(), "team-a")
		for i := range 1000 {
			if err := limitedLookup(ctx, c, i); i < lookupsPerRequest {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errRequestLimit)
			}
		}
		require.Equal(t, lookupsPerRequest, e.sim.CallsOf("ip-get"))
	})
}

func TestLookupLimits_PerNamespace(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		var last *metal.LookupLimitError
		for i := range 1000 {
			if err := limitedLookup(c.WithAllowance(t.Context(), "team-a"), c, i); err != nil {
				var ok bool
				last, ok = errors.AsType[*metal.LookupLimitError](err)
				require.True(t, ok, "%v", err)
			}
		}
		require.NotNil(t, last)
		require.Equal(t, "team-a", last.Namespace)
		require.Positive(t, last.RetryAfter)
		require.LessOrEqual(t, last.RetryAfter, time.Second)
		require.Equal(t, lookupBurst, e.sim.CallsOf("ip-get"))

		require.NoError(t, limitedLookup(c.WithAllowance(t.Context(), "team-b"), c, 1000))
		time.Sleep(last.RetryAfter)
		require.NoError(t, limitedLookup(c.WithAllowance(t.Context(), "team-a"), c, 1001))
		// What is cached costs nothing.
		require.NoError(t, limitedLookup(c.WithAllowance(t.Context(), "team-a"), c, 1001))
		require.Equal(t, lookupBurst+2, e.sim.CallsOf("ip-get"))
	})
}

func TestLookupLimits_ServerWide(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		for i := range 3000 {
			if err := limitedLookup(c.WithAllowance(t.Context(), fmt.Sprintf("ns-%d", i)), c, i); err != nil {
				require.ErrorIs(t, err, errServerLimit)
				require.Equal(t, metal.Unavailable, metal.KindOf(err), "as during an outage")
			}
		}
		require.Equal(t, serverLookupBurst, e.sim.CallsOf("ip-get"))
		require.LessOrEqual(t, len(c.address.limits.byNamespace), maxNamespaces)
	})
}

// A lookup ends with the last of the requests that wait for it.
func TestLookup_IsCancelledWithoutWaiters(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		var (
			mu    sync.Mutex
			ended []time.Duration
		)
		began := time.Now()
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, time.Since(began))
			return nil, r.Context().Err()
		})
		var wg sync.WaitGroup
		for _, leaves := range []time.Duration{time.Second, 2 * time.Second} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), leaves)
				defer cancel()
				_, _, err := c.LookupNetwork(ctx, simulator.InternetNetwork, simulator.ProjectA)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
		wg.Wait()
		time.Sleep(time.Millisecond)
		mu.Lock()
		require.Equal(t, []time.Duration{2 * time.Second}, ended)
		mu.Unlock()

		// That no caller waited says nothing about the metal-api.
		e.transport.Answer(nil)
		n, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
		require.NoError(t, err)
		require.NotNil(t, n)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = c.LookupNetwork(ctx, "another", simulator.ProjectA)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 1, e.sim.CallsOf("network-get"), "a request that has ended asks for nothing")
	})
}

// A lookup that another caller abandoned before its answer came still ends.
func TestLookup_IsCancelledAfterEarlierTimeout(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		ended := make(chan time.Duration, 1)
		began := time.Now()
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			ended <- time.Since(began)
			return nil, r.Context().Err()
		})
		_, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
		require.ErrorIs(t, err, metal.ErrTimeout)
		require.Empty(t, ended, "the next one to ask may have the answer")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = c.LookupNetwork(ctx, simulator.InternetNetwork, simulator.ProjectA)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, lookupTimeout+time.Second, <-ended)
	})
}

func TestEntityCache_RefusedIDsEvictNothing(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		_, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
		require.NoError(t, err)
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		time.Sleep(time.Hour)
		ctx := c.WithAllowance(t.Context(), "team-a")
		for i := range maxEntries + lookupsPerRequest {
			_, _, err := c.LookupNetwork(ctx, fmt.Sprintf("random-%d", i), simulator.ProjectA)
			require.Error(t, err)
		}
		n, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
		require.NoError(t, err)
		require.NotNil(t, n)
	})
}

// Whoever reads projects keeps others neither from reading sizes nor from look-ups.
func TestRefreshProject_IsLimitedWithoutAllowance(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		id := func(i int) string { return fmt.Sprintf("10000000-0000-4000-8000-%012d", i) }
		for i := range projectBurst {
			require.NoError(t, c.RefreshProject(t.Context(), id(i)))
		}
		err := c.RefreshProject(t.Context(), id(projectBurst))
		require.ErrorIs(t, err, errServerLimit)
		var stale *metal.StaleError
		require.ErrorAs(t, err, &stale)
		require.NoError(t, c.RefreshProject(t.Context(), id(0)), "what was read just now is not read again")
		require.NoError(t, c.Refresh(t.Context(), metal.KindSize))
		_, _, err = c.LookupNetwork(c.WithAllowance(t.Context(), "team-a"), simulator.InternetNetwork, simulator.ProjectA)
		require.NoError(t, err)
		time.Sleep(time.Second / projectRate)
		require.NoError(t, c.RefreshProject(t.Context(), id(projectBurst)))
		require.Equal(t, projectBurst+1, e.sim.CallsOf("project-get"))
	})
}
