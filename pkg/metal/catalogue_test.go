package metal

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestCatalogueAnswersWhatThereIs(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil).WithMetrics(prometheus.NewRegistry())
		ctx := t.Context()

		size, all, err := c.LookupSize(ctx, simulator.SmallSize)
		require.NoError(t, err)
		require.Equal(t, simulator.SmallSize, size.ID)
		require.NotEmpty(t, size.Constraints)
		require.Empty(t, all)
		size, all, err = c.LookupSize(ctx, "c9-none")
		require.NoError(t, err)
		require.Nil(t, size)
		require.Equal(t, []string{simulator.LargeSize, simulator.SmallSize}, all)

		partition, _, err := c.LookupPartition(ctx, simulator.DefaultPartition)
		require.NoError(t, err)
		require.Equal(t, "fra", partition.Labels["region"])
		_, all, err = c.LookupPartition(ctx, "nope")
		require.NoError(t, err)
		require.Equal(t, []string{simulator.DefaultPartition}, all)

		project, err := c.LookupProject(ctx, simulator.ProjectA)
		require.NoError(t, err)
		require.Equal(t, &Project{ID: simulator.ProjectA, Name: "team-a", Tenant: simulator.DefaultTenant}, project)
		project, err = c.LookupProject(ctx, nobody)
		require.NoError(t, err)
		require.Nil(t, project)
	})
}

func TestImagesAreKnownByTheirAliasesToo(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		ctx := t.Context()
		image, _, err := c.LookupImage(ctx, "ubuntu-24.04", FeatureMachine)
		require.NoError(t, err)
		require.Equal(t, "ubuntu-24.04.20260101", image.ID, "the newest (032)")
		require.Equal(t, "ubuntu-24.04", image.Alias)
		image, _, err = c.LookupImage(ctx, "ubuntu-24.04.20250701", "")
		require.NoError(t, err)
		require.Equal(t, "ubuntu-24.04.20250701", image.ID)
		image, _, err = c.LookupImage(ctx, simulator.FirewallImage, FeatureFirewall)
		require.NoError(t, err)
		require.Equal(t, []string{FeatureFirewall}, image.Features)
		for _, wrong := range []string{"ubuntu-99.04", "ubuntu", "ubuntu-24", "ubuntu-24.04.", "", simulator.FirewallImage} {
			image, all, err := c.LookupImage(ctx, wrong, FeatureMachine)
			require.NoError(t, err)
			require.Nil(t, image, wrong)
			require.Contains(t, all, "ubuntu-24.04")
			require.NotContains(t, all, simulator.FirewallImage)
			require.IsIncreasing(t, all)
		}
	})
}

func TestNewestPatchIsANumber(t *testing.T) {
	images := []*Image{{ID: "o-1.0.9", Alias: "o-1.0"}, {ID: "o-1.0.20260101", Alias: "o-1.0"}, {ID: "o-1.0.10", Alias: "o-1.0"}}
	require.Equal(t, "o-1.0.20260101", findImage(images, "o-1.0", "").ID)
	require.Equal(t, "o-1.0.10", findImage([]*Image{images[0], images[2]}, "o-1.0", "").ID)
	require.Equal(t, "a-b-1.0", imageAlias("a-b-1.0.1"))
	require.Equal(t, "nodash", imageAlias("nodash"))
}

func TestNetworksAreLookedUpOneByOne(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		own, foreign := b.network(simulator.ProjectA), b.network(simulator.ProjectB)
		n, _, err := c.LookupNetwork(t.Context(), foreign, simulator.ProjectA)
		require.NoError(t, err)
		require.Equal(t, simulator.ProjectB, n.Project, "who may use it is for the caller to say")
		n, _, err = c.LookupNetwork(t.Context(), simulator.SuperNetwork, simulator.ProjectA)
		require.NoError(t, err)
		require.True(t, n.PrivateSuper)
		require.Zero(t, b.sim.CallsOf("network-list"))

		n, all, err := c.LookupNetwork(t.Context(), "nope", simulator.ProjectA)
		require.NoError(t, err)
		require.Nil(t, n)
		require.Contains(t, all, own)
		require.Contains(t, all, simulator.InternetNetwork)
		for _, other := range []string{foreign, simulator.SuperNetwork, simulator.UnderlayNetwork} {
			require.NotContains(t, all, other)
		}
	})
}

func TestAWreckedNetworkDoesNotSpoilTheCatalogue(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		b.sim.Inject(simulator.Fault{Endpoint: "network-list", Kind: simulator.FaultStatus, Status: 422, Message: "prefix usage for cidr:10.0.12.0/22 not found"})
		n, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
		require.NoError(t, err)
		require.NotNil(t, n)
		n, all, err := c.LookupNetwork(t.Context(), "nope", simulator.ProjectA)
		require.NoError(t, err, "that it is not known is known")
		require.Nil(t, n)
		require.Empty(t, all)
	})
}

func TestAMissIsSharedAndTypingErrorsCostLittle(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		b.sim.Inject(simulator.Fault{Endpoint: "*-list", Kind: simulator.FaultLatency, Latency: soon})
		b.sim.Inject(simulator.Fault{Endpoint: "size-list", Kind: simulator.FaultLatency, Latency: soon})
		for range 10 {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					_, _, err := c.LookupSize(t.Context(), "typo")
					require.NoError(t, err)
					_, err = c.LookupProject(t.Context(), nobody)
					require.NoError(t, err)
				})
			}
			wg.Wait()
		}
		require.Equal(t, 1, b.sim.CallsOf("size-list"))
		require.Equal(t, 1, b.sim.CallsOf("project-get"))
		// A list that takes 100 ms is read each 10 s at most: 1 % of the time.
		time.Sleep(catalogueGap)
		_, _, _ = c.LookupSize(t.Context(), "typo")
		require.Equal(t, 1, b.sim.CallsOf("size-list"))
		time.Sleep(2 * catalogueQuiet * soon)
		_, _, _ = c.LookupSize(t.Context(), "typo")
		require.Equal(t, 2, b.sim.CallsOf("size-list"))
	})
}

func TestAnEntryThatIsNewIsKnownAfterAMiss(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		hide := true
		b.wire.answer(func(r *http.Request) (*http.Response, error) {
			if hide && r.URL.Path == "/v1/size" {
				return respond(200, "application/json", "[]")(r)
			}
			return nil, nil
		})
		size, all, err := c.LookupSize(t.Context(), simulator.SmallSize)
		require.NoError(t, err)
		require.Nil(t, size)
		require.Empty(t, all)
		hide = false
		time.Sleep(catalogueGap)
		size, _, err = c.LookupSize(t.Context(), simulator.SmallSize)
		require.NoError(t, err)
		require.NotNil(t, size)
	})
}

func TestWhileTheMetalApiIsAwayTheCatalogueKnowsWhatItKnew(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused": {Kind: simulator.FaultRefused},
		"hang":    {Kind: simulator.FaultHang},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
				c := NewCatalogue(b.client, nil)
				_, _, err := c.LookupSize(t.Context(), simulator.SmallSize)
				require.NoError(t, err)
				_, _, err = c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
				require.NoError(t, err)
				fault.Endpoint = "*"
				remove := b.sim.Inject(fault)
				time.Sleep(10 * time.Minute)

				size, _, err := c.LookupSize(t.Context(), simulator.SmallSize)
				require.NoError(t, err)
				require.NotNil(t, size)
				n, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
				require.NoError(t, err)
				require.NotNil(t, n)
				for range 3 {
					began := time.Now()
					_, all, err := c.LookupSize(t.Context(), "typo")
					require.True(t, IsUnavailable(err), "%v", err)
					require.NotEmpty(t, all)
					require.LessOrEqual(t, time.Since(began), catalogueWait)
					_, err = c.LookupProject(t.Context(), simulator.ProjectB)
					require.True(t, IsUnavailable(err), "%v", err)
					require.ErrorContains(t, err, simulator.ProjectB)
				}
				time.Sleep(time.Minute)
				_, _, err = c.LookupSize(t.Context(), "typo")
				require.ErrorContains(t, err, "unreachable since 2000-")

				remove()
				time.Sleep(time.Minute)
				size, all, err := c.LookupSize(t.Context(), "typo")
				require.NoError(t, err)
				require.Nil(t, size)
				require.NotEmpty(t, all)
			})
		})
	}
}

func TestALookupEndsWithItsContext(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultHang})
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		began := time.Now()
		_, _, err := c.LookupImage(ctx, "x-1.0", "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, IsUnavailable(err))
		_, err = c.LookupProject(ctx, nobody)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, soon, time.Since(began))
	})
}

func TestRunKeepsTheCatalogueFresh(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		synctest.Wait()
		require.Equal(t, 1, b.sim.CallsOf("image-list"))
		_, _, err := c.LookupImage(t.Context(), "ubuntu-24.04", "")
		require.NoError(t, err)
		require.Equal(t, 1, b.sim.CallsOf("image-list"), "a lookup of what is known costs nothing")
		time.Sleep(time.Hour)
		require.InDelta(t, 12, b.sim.CallsOf("image-list"), 2)
		require.Zero(t, b.sim.CallsOf("network-list"), "networks are too many to be listed without need")
		cancel()
		<-done
	})
}

func TestManyIDsDoNotFillTheCache(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		c := NewCatalogue(b.client, nil)
		for i := range 3 * catalogueMostIDs {
			e := c.project.entry(strings.Repeat("x", i%7) + time.Duration(i).String())
			e.tried = time.Now()
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		require.LessOrEqual(t, len(c.project.entries), catalogueMostIDs+100)
	})
}
