// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// listed are the kinds that are shown, and the lists that they are made of.
var listed = map[metal.RefKind][]string{
	metal.KindSize:      {"size-list", "size-image-constraint-list"},
	metal.KindImage:     {"image-list"},
	metal.KindPartition: {"partition-list", "size-reservation-list"},
	metal.KindProject:   {"project-list", "size-reservation-list"},
}

func TestRefresh_ReadsWithinMinimalIntervalOnce(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil).WithMetrics(prometheus.NewRegistry())
		for kind, lists := range listed {
			e.sim.ResetCalls()
			time.Sleep(time.Hour)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() { assert.NoError(t, c.Refresh(t.Context(), kind)) })
			}
			wg.Wait()
			require.True(t, c.Loaded(kind))
			time.Sleep(minGap - time.Millisecond)
			require.NoError(t, c.Refresh(t.Context(), kind))
			require.Len(t, e.sim.Calls(), len(lists), kind)
			for _, list := range lists {
				require.Equal(t, 1, e.sim.CallsOf(list), list)
			}
			time.Sleep(2 * time.Millisecond)
			require.NoError(t, c.Refresh(t.Context(), kind))
			for _, list := range lists {
				require.Equal(t, 2, e.sim.CallsOf(list), list)
			}
		}
	})
}

func TestCatalogue_CachedReadsNeverAsk(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		read := func() int {
			n := len(c.Sizes()) + len(c.Images()) + len(c.Partitions()) + len(c.Projects()) + len(c.Reservations()) + len(c.SizeImageConstraints())
			for _, found := range []bool{
				c.Image("ubuntu-24.04.20260101") != nil, c.Partition(simulator.DefaultPartition) != nil, c.Project(simulator.ProjectA) != nil,
			} {
				if found {
					n++
				}
			}
			return n
		}
		for kind := range listed {
			require.False(t, c.Loaded(kind), kind)
		}
		require.Zero(t, read())
		require.Empty(t, e.sim.Calls())
		require.NoError(t, c.Refresh(t.Context(), metal.KindSize, metal.KindImage, metal.KindPartition, metal.KindProject))
		calls := e.sim.Calls()
		require.Len(t, calls, 6)
		require.Equal(t, 2+6+1+2+3, read())
		require.Equal(t, calls, e.sim.Calls())
		require.True(t, slices.IsSortedFunc(c.Images(), func(a, b *metal.Image) int { return cmp.Compare(a.ID, b.ID) }))
	})
}

func TestRefresh_ErrorSaysSinceWhen(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		stale := func(err error) *metal.StaleError {
			t.Helper()
			var s *metal.StaleError
			require.ErrorAs(t, err, &s)
			return s
		}
		restore := e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		require.Zero(t, stale(c.Refresh(t.Context(), metal.KindPartition)).Since, "it was never read")
		require.False(t, c.Loaded(metal.KindPartition))
		_, err := c.CurrentReservations(t.Context())
		stale(err)
		_, err = c.LookupLayouts(t.Context())
		stale(err)
		stale(c.RefreshProject(t.Context(), simulator.ProjectA))
		restore()
		time.Sleep(minRetryInterval)
		read := time.Now()
		require.NoError(t, c.Refresh(t.Context(), metal.KindPartition))
		time.Sleep(minGap)

		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		require.WithinDuration(t, read, stale(c.Refresh(t.Context(), metal.KindPartition)).Since, time.Second)
		require.NotEmpty(t, c.Partitions(), "what is cached stays")
		require.True(t, c.Loaded(metal.KindPartition))
	})
}

// A read that hangs keeps no request for longer than look-ups may take, nor one that has ended.
func TestRefresh_EndsInTime(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		began := time.Now()
		require.ErrorIs(t, c.Refresh(t.Context(), metal.KindPartition, metal.KindSize), metal.ErrTimeout)
		require.Equal(t, lookupTimeout, time.Since(began), "lists are read at the same time")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		require.ErrorIs(t, c.Refresh(ctx, metal.KindPartition), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		e.transport.Answer(nil)
		time.Sleep(time.Minute)
		require.NoError(t, c.Refresh(t.Context(), metal.KindPartition))
	})
}

// Reads of what is shown are repeated by themselves, while an outage lasts, too.
func TestRefresh_IsMadeMoreSeldomWhileListFails(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		restore := e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		var failed atomic.Int32
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/image" {
				failed.Add(1)
			}
			return nil, nil
		})
		for range 4 * 300 {
			require.Error(t, c.Refresh(t.Context(), metal.KindImage))
			time.Sleep(retryGap)
		}
		require.Less(t, failed.Load(), int32(6+300/30))
		require.Greater(t, failed.Swap(0), int32(300/30))
		for range 40 {
			_, _, err := c.LookupPartition(t.Context(), "nope")
			require.Error(t, err)
			_, _, err = c.LookupImage(t.Context(), "nope", "")
			require.Error(t, err)
			time.Sleep(retryGap)
		}
		require.GreaterOrEqual(t, failed.Load(), int32(39), "look-ups are not repeated by themselves")
		restore()
		time.Sleep(maxRetryInterval)
		require.NoError(t, c.Refresh(t.Context(), metal.KindImage))
	})
}

// What is called with changes may take long: reads do not.
func TestRefresh_EndsInTimeWhileChangesAreReported(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		calls, leave := 0, make(chan struct{})
		c.OnChanged(func([]metal.Ref) {
			calls++
			<-leave
		})
		first := time.Now()
		for range 5 {
			began := time.Now()
			err := c.Refresh(t.Context(), metal.KindSize)
			require.ErrorIs(t, err, metal.ErrTimeout)
			var stale *metal.StaleError
			require.ErrorAs(t, err, &stale)
			require.False(t, stale.Since.After(first), "when the last report that is over began")
			require.LessOrEqual(t, time.Since(began), 2*lookupTimeout)
			time.Sleep(minGap)
		}
		c.changes.mu.Lock()
		require.NotNil(t, c.changes.next, "all that wait share one report")
		c.changes.mu.Unlock()
		close(leave)
		require.NoError(t, c.Refresh(t.Context(), metal.KindSize))
		synctest.Wait()
		require.Equal(t, 1, calls, "nothing else has changed")
	})
}

func TestProjectLoaded_AfterGetOfUnknownProject(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		require.False(t, c.ProjectLoaded(metaltest.NoSuchID))
		require.NoError(t, c.RefreshProject(t.Context(), metaltest.NoSuchID))
		require.True(t, c.ProjectLoaded(metaltest.NoSuchID))
		require.Nil(t, c.Project(metaltest.NoSuchID))
		require.False(t, c.ProjectLoaded(simulator.ProjectA))
		require.NoError(t, c.Refresh(t.Context(), metal.KindProject))
		require.True(t, c.ProjectLoaded(simulator.ProjectA))
	})
}

// What is reserved for a project can be missing; it is shown all the same.
func TestRefreshProject_ReportsProjectWithoutReservations(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		var changed []metal.Ref
		c.OnChanged(func(refs []metal.Ref) { changed = append(changed, refs...) })
		e.sim.Inject(simulator.Fault{Endpoint: "size-reservation-list", Kind: simulator.FaultRefused})
		require.Error(t, c.RefreshProject(t.Context(), simulator.ProjectA))
		require.Equal(t, []metal.Ref{{Kind: metal.KindProject, ID: simulator.ProjectA}}, changed)
		require.True(t, c.ProjectLoaded(simulator.ProjectA))
		require.False(t, c.Loaded(metal.KindProject))
	})
}

// Who is told that a kind is loaded is shown what is loaded.
func TestLoaded_OnceChangesAreReported(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		reporting, goOn := make(chan struct{}, 1), make(chan struct{})
		c.OnChanged(func([]metal.Ref) {
			reporting <- struct{}{}
			<-goOn
		})
		done := make(chan error)
		go func() { done <- c.Refresh(t.Context(), metal.KindImage) }()
		<-reporting
		require.NotEmpty(t, c.Images())
		require.False(t, c.Loaded(metal.KindImage))
		close(goOn)
		require.NoError(t, <-done)
		require.True(t, c.Loaded(metal.KindImage))

		go func() { done <- c.RefreshProject(t.Context(), simulator.ProjectA) }()
		synctest.Wait()
		require.NoError(t, <-done)
		require.True(t, c.ProjectLoaded(simulator.ProjectA))
	})
}

// slowProject answers a get of a project late, with what it was when the get began.
type slowProject struct {
	metal.Inventory
	name  atomic.Value
	delay time.Duration
}

func newSlowProject(delay time.Duration) *slowProject {
	s := &slowProject{delay: delay}
	s.name.Store("old")
	return s
}

func (s *slowProject) Project(_ context.Context, id string) (*metal.Project, error) {
	p := &metal.Project{ID: id, Name: s.name.Load().(string)}
	time.Sleep(s.delay)
	return p, nil
}

func (s *slowProject) ListProjects(context.Context) ([]*metal.Project, error) {
	return []*metal.Project{{ID: simulator.ProjectA, Name: s.name.Load().(string)}}, nil
}

func (*slowProject) ListReservations(context.Context) ([]*metal.Reservation, error) { return nil, nil }

func TestProject_IsThatOfTheReadThatBeganLater(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, _ *env) {
		backend := newSlowProject(time.Second)
		c := New(backend, nil)
		done := make(chan error)
		go func() { done <- c.RefreshProject(t.Context(), simulator.ProjectA) }()
		time.Sleep(soon)
		backend.name.Store("new")
		require.NoError(t, c.Refresh(t.Context(), metal.KindProject))
		require.NoError(t, <-done)
		require.Equal(t, "new", c.Project(simulator.ProjectA).Name)
		backend.name.Store("newest")
		time.Sleep(powerTTL)
		require.NoError(t, c.RefreshProject(t.Context(), simulator.ProjectA))
		require.Equal(t, "newest", c.Project(simulator.ProjectA).Name)
	})
}

func TestOnChanged_ReportsProjectThatIsAnsweredLate(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, _ *env) {
		c := New(newSlowProject(2*lookupTimeout), nil)
		var reported []metal.Ref
		c.OnChanged(func(refs []metal.Ref) { reported = append(reported, refs...) })
		require.ErrorIs(t, c.RefreshProject(t.Context(), simulator.ProjectA), metal.ErrTimeout)
		time.Sleep(2 * lookupTimeout)
		synctest.Wait()
		require.Equal(t, refsOf(metal.KindProject, simulator.ProjectA), reported)
	})
}

func TestRun_KeepsOnDemandListsFreshWhileTheyAreUsed(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Run(ctx)
		onDemand := []string{"project-list", "size-reservation-list", "size-image-constraint-list", "filesystemlayout-list"}
		time.Sleep(time.Hour)
		for _, list := range onDemand {
			require.Zero(t, e.sim.CallsOf(list), "%s: at rest nothing is called", list)
		}
		require.Greater(t, e.sim.CallsOf("size-list"), 10)

		_, err := c.LookupLayouts(ctx)
		require.NoError(t, err)
		require.NoError(t, c.Refresh(ctx, metal.KindProject, metal.KindSize))
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, list := range onDemand {
			require.Equal(t, 3, e.sim.CallsOf(list), "%s: at its use, 5 and 10 minutes later", list)
		}

		stop := c.Watching(metal.KindPartition)
		before := e.sim.CallsOf("size-reservation-list")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, before+12, e.sim.CallsOf("size-reservation-list"), "every 5 minutes while it is watched")
		stop()
		stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, before+12+3, e.sim.CallsOf("size-reservation-list"))

		layouts, err := c.LookupLayouts(ctx)
		require.NoError(t, err)
		require.Len(t, layouts, 2)
		require.Equal(t, 4, e.sim.CallsOf("filesystemlayout-list"), "what is an hour old is not the answer")
		_, read := c.CachedReservations()
		require.Greater(t, time.Since(read), 10*time.Minute, "nothing is read for them")
		time.Sleep(time.Minute)
		_, err = c.LookupLayouts(ctx)
		require.NoError(t, err)
		require.Equal(t, 4, e.sim.CallsOf("filesystemlayout-list"))
		_, err = c.CurrentLayouts(ctx)
		require.NoError(t, err)
		require.Equal(t, 5, e.sim.CallsOf("filesystemlayout-list"))
	})
}

func TestRefreshProject_ShowsWhatIsUsed(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		used := func() *int64 { return c.Project(simulator.ProjectA).Machines.Used }
		e.allocate(simulator.ProjectA)
		require.NoError(t, c.Refresh(t.Context(), metal.KindProject))
		require.Nil(t, used(), "lists do not show it")

		ctx := c.WithAllowance(t.Context(), "team-a")
		require.NoError(t, c.RefreshProject(ctx, simulator.ProjectA))
		require.EqualValues(t, 1, *used())
		require.Equal(t, "team-a", c.Project(simulator.ProjectA).Name)
		e.allocate(simulator.ProjectA)
		require.NoError(t, c.RefreshProject(ctx, simulator.ProjectA))
		require.Equal(t, 1, e.sim.CallsOf("project-get"))
		time.Sleep(powerTTL)
		require.NoError(t, c.RefreshProject(ctx, simulator.ProjectA))
		require.EqualValues(t, 2, *used())

		time.Sleep(minGap)
		require.NoError(t, c.Refresh(t.Context(), metal.KindProject))
		require.EqualValues(t, 2, *used(), "a list takes nothing away")
		for _, p := range c.Projects() {
			require.Equal(t, p.ID == simulator.ProjectA, p.Machines.Used != nil)
		}

		_, err := e.sim.ReserveSize(simulator.ProjectA, simulator.SmallSize, simulator.DefaultPartition, 1)
		require.NoError(t, err)
		time.Sleep(minGap)
		require.NoError(t, c.RefreshProject(ctx, simulator.ProjectA))
		require.Len(t, c.Reservations(), 1, "what is reserved for it is shown with it")

		require.NoError(t, c.RefreshProject(ctx, metaltest.NoSuchID))
		require.Nil(t, c.Project(metaltest.NoSuchID))
		for i := 0; ; i++ {
			require.Less(t, i, lookupsPerRequest)
			time.Sleep(powerTTL)
			if err := c.RefreshProject(ctx, simulator.ProjectA); err != nil {
				require.ErrorIs(t, err, errRequestLimit)
				break
			}
		}
	})
}

// What was read after nothing of it is shown any more counts as not loaded.
func TestLoaded_IsOfWhatIsShown(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		shown := true
		c := New(e.client, nil).WithShown(func() bool { return shown })
		c.OnChanged(func([]metal.Ref) {})
		require.NoError(t, c.Refresh(t.Context(), metal.KindSize))
		shown = false
		require.NoError(t, c.Refresh(t.Context(), metal.KindImage))
		require.NoError(t, c.RefreshProject(t.Context(), simulator.ProjectA))
		require.True(t, c.Loaded(metal.KindSize))
		require.False(t, c.Loaded(metal.KindImage))
		require.False(t, c.ProjectLoaded(simulator.ProjectA))
	})
}
