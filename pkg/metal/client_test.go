package metal

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

const nobody = "00000000-0000-4000-8000-00000000ffff"

func TestClientOverTheWire(t *testing.T) {
	srv := simtest.Start(t, simulator.Config{BasePath: "/metal"})
	reg := prometheus.NewRegistry()
	c, err := NewClient(Options{URL: srv.URL, HMAC: srv.Key(AuthEdit), Registerer: reg})
	require.NoError(t, err)
	ctx := t.Context()

	network, err := c.AllocateNetwork(ctx, NetworkRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "n",
		Labels: map[string]string{TagUID: "net-uid"},
	})
	require.NoError(t, err)
	require.Equal(t, "net-uid", network.UID())
	require.Equal(t, simulator.SuperNetwork, network.ParentNetworkID)
	read, err := c.Network(ctx, network.ID)
	require.NoError(t, err)
	require.Equal(t, network, read, "the answer of a write equals the next read")
	networks, err := c.FindNetworks(ctx, NetworkQuery{Project: simulator.ProjectA, Labels: map[string]string{TagUID: "net-uid"}})
	require.NoError(t, err)
	require.Equal(t, []*Network{network}, networks)

	ip, err := c.AllocateIP(ctx, IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Name: "lb", Type: TypeStatic, Tags: []string{"z", Tag(TagUID, "ip-uid")}})
	require.NoError(t, err)
	require.Equal(t, "ip-uid", ip.UID())
	ips, err := c.FindIPs(ctx, IPQuery{Project: simulator.ProjectA, Tags: []string{Tag(TagUID, "ip-uid")}})
	require.NoError(t, err)
	require.Equal(t, []*IP{ip}, ips)
	_, err = c.AllocateIP(ctx, IPRequest{Address: ip.Address, Project: simulator.ProjectB, Network: simulator.InternetNetwork})
	require.True(t, IsConflict(err), "%v", err)

	machine, err := c.AllocateMachine(ctx, MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.MachineImage,
		Name: "node-1", Hostname: "node-1", Networks: []string{network.ID}, Tags: []string{Tag(TagUID, "uid-1")}, UserData: []byte("hello"),
	})
	require.NoError(t, err)
	require.Equal(t, "uid-1", machine.UID())
	require.Equal(t, RoleMachine, machine.Allocation.Role)
	require.True(t, machine.InTransition())
	account, _ := srv.Sim.Books().Machine(machine.ID)
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte("hello")), account.UserData)
	found, err := c.FindMachines(ctx, MachineQuery{Project: simulator.ProjectA, Tags: []string{Tag(TagUID, "uid-1")}})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, machine.Allocation, found[0].Allocation)
	got, err := c.Machine(ctx, machine.ID)
	require.NoError(t, err)
	require.Equal(t, found[0], got)

	firewall, err := c.AllocateFirewall(ctx, FirewallRequest{
		MachineRequest: MachineRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.FirewallImage,
			Name: "fw", Hostname: "fw", Networks: []string{network.ID, simulator.InternetNetwork},
		},
		Rules: &FirewallRules{
			Egress:  []EgressRule{{Protocol: "tcp", Ports: []int32{443}, To: []string{"0.0.0.0/0"}, Comment: "https"}},
			Ingress: []IngressRule{{Protocol: "udp", Ports: []int32{51820}, From: []string{"203.0.113.0/24"}, To: []string{"10.0.0.0/16"}}},
		},
	})
	require.NoError(t, err)
	require.Equal(t, RoleFirewall, firewall.Allocation.Role)
	all, err := c.ListMachines(ctx)
	require.NoError(t, err)
	require.Len(t, all, 8)

	_, err = c.FreeNetwork(ctx, network.ID)
	require.True(t, IsConflict(err), "addresses hold it: %v", err)
	for _, id := range []string{machine.ID, firewall.ID} {
		freed, err := c.FreeMachine(ctx, id)
		require.NoError(t, err)
		require.Nil(t, freed.Allocation)
	}
	srv.Sim.Advance()
	_, err = c.FreeNetwork(ctx, network.ID)
	require.NoError(t, err)
	_, err = c.FreeNetwork(ctx, network.ID)
	require.True(t, IsNotFound(err))
	_, err = c.FreeIP(ctx, ip.Address)
	require.NoError(t, err)
	_, err = c.IP(ctx, ip.Address)
	require.True(t, IsNotFound(err))
	ips, err = c.FindIPs(ctx, IPQuery{Address: ip.Address})
	require.NoError(t, err)
	require.Empty(t, ips)

	require.Positive(t, testutil.CollectAndCount(reg, MetricCalls, MetricCallSeconds, MetricCallsInFlight))
}

func TestRefusalsCarryTheMetalApisOwnWords(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		r := b.request(b.network(simulator.ProjectA))
		r.Size = "nope"
		_, err := b.client.AllocateMachine(t.Context(), r)
		require.True(t, IsRefused(err))
		require.EqualError(t, err, `metal-api: machine allocate: size:nope not found err:NotFound no size with id "nope" found`)
	})
}

func TestACallersCancellationNeverReachesAWrite(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		r := b.request(b.network(simulator.ProjectA))
		b.sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultLatency, Latency: 20 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := b.client.AllocateMachine(ctx, r)
		require.True(t, IsUncertain(err), "%v", err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began), "who gives up is told at once")
		require.Empty(t, b.sim.Books().Of(simulator.ProjectA))

		require.NoError(t, b.client.Drain(t.Context()))
		require.Equal(t, 20*time.Second, time.Since(began))
		require.Len(t, b.sim.Books().Of(simulator.ProjectA), 1)
		// The answer that nobody waited for was learned all the same.
		require.Len(t, b.obs.MachinesByUID("uid-1"), 1)
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		require.NoError(t, b.client.Drain(t.Context()))
		b.sim.Inject(simulator.Fault{Endpoint: "network-allocate", Kind: simulator.FaultLatency, Latency: 20 * time.Second})
		go func() {
			_, _ = b.client.AllocateNetwork(context.Background(), NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.client.Drain(ctx), context.DeadlineExceeded)
		require.NoError(t, b.client.Drain(t.Context()))
	})
}

func TestACallerThatIsGoneBeginsNothing(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.client.FreeMachine(ctx, nobody)
		require.True(t, IsUnavailable(err))
		_, err = b.client.Machine(ctx, nobody)
		require.True(t, IsUnavailable(err))
		require.Zero(t, b.sim.CallsOf("machine-free")+b.sim.CallsOf("machine-get"))
	})
}

func TestEveryCallHasADeadline(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		r := b.request(b.network(simulator.ProjectA))
		b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultHang})
		for _, call := range []struct {
			kind Kind
			took time.Duration
			do   func(context.Context) error
		}{
			{Unavailable, 5 * time.Second, func(ctx context.Context) error { _, err := b.client.Machine(ctx, nobody); return err }},
			{Unavailable, 15 * time.Second, func(ctx context.Context) error { _, err := b.client.FindMachines(ctx, MachineQuery{}); return err }},
			{Unavailable, time.Minute, func(ctx context.Context) error { _, err := b.client.ListMachines(ctx); return err }},
			{Uncertain, 5 * time.Minute, func(ctx context.Context) error { _, err := b.client.AllocateMachine(ctx, r); return err }},
			{Uncertain, 2 * time.Minute, func(ctx context.Context) error { _, err := b.client.FreeMachine(ctx, nobody); return err }},
		} {
			began := time.Now()
			err := call.do(t.Context())
			require.Equal(t, call.kind, KindOf(err), "%v", err)
			require.Equal(t, call.took, time.Since(began))
		}
	})
}

func TestALostReplyIsUncertain(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		r := b.request(b.network(simulator.ProjectA))
		b.sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultCommitThenLose, Times: 1})
		_, err := b.client.AllocateMachine(t.Context(), r)
		require.True(t, IsUncertain(err), "%v", err)
		require.Len(t, b.sim.Books().Of(simulator.ProjectA), 1)
	})
}

func TestABodyThatIsCutOrNoJSONIsAnError(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		network := b.network(simulator.ProjectA)
		b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultTruncatedBody})
		_, err := b.client.ListMachines(t.Context())
		require.True(t, IsUnavailable(err), "%v", err)
		_, err = b.client.Network(t.Context(), network)
		require.True(t, IsUnavailable(err), "%v", err)
		_, err = b.client.AllocateMachine(t.Context(), b.request(network))
		require.True(t, IsUncertain(err), "%v", err)
		require.Len(t, b.sim.Books().Of(simulator.ProjectA), 1, "it was done")

		for _, body := range []string{"", "{}", "null", "<html>", `{"id":""}`, `{"id":"x"} {"id":"y"}`, `{"id":"x"`, `[]`, `"x"`} {
			b.wire.answer(respond(200, "application/json", body))
			_, err = b.client.Machine(t.Context(), nobody)
			require.True(t, IsUnavailable(err), "%q: %v", body, err)
			_, err = b.client.Network(t.Context(), nobody)
			require.True(t, IsUnavailable(err), "%q: %v", body, err)
			_, err = b.client.AllocateNetwork(t.Context(), NetworkRequest{})
			require.True(t, IsUncertain(err), "%q: %v", body, err)
			_, err = b.client.AllocateMachine(t.Context(), MachineRequest{})
			require.True(t, IsUncertain(err), "%q: %v", body, err)
		}
		for _, body := range []string{"", "{}", "<html>", `[{"id":"x"}`, `[{}]`, `[{"id":"x"},null]`, `[] []`, `[{"id":"x"}]x`} {
			b.wire.answer(respond(200, "text/html", body))
			_, err = b.client.ListMachines(t.Context())
			require.True(t, IsUnavailable(err), "%q: %v", body, err)
		}
		for _, body := range []string{"null", "[]", " [ ] \n"} {
			b.wire.answer(respond(200, "application/json", body))
			all, err := b.client.ListMachines(t.Context())
			require.NoError(t, err)
			require.Empty(t, all)
		}
	})
}

func TestAnAnswerCanBeTooLarge(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		b.wire.answer(respond(200, "application/json", `{"id":"x","rackid":"`+strings.Repeat("x", limitOne)+`"}`))
		_, err := b.client.Machine(t.Context(), nobody)
		require.True(t, IsUnavailable(err))
		require.ErrorIs(t, err, errTooLarge)
	})
}

func TestAWrongBasePathIsNotNotFound(t *testing.T) {
	inBed(t, bedConfig{sim: simulator.Config{BasePath: "/metal"}}, func(t *testing.T, b *bed) {
		_, err := b.client.Machine(t.Context(), nobody)
		require.True(t, IsUnavailable(err), "%v", err)
		require.ErrorContains(t, err, "base path")
		_, err = b.client.FreeMachine(t.Context(), nobody)
		require.True(t, IsUnavailable(err), "nothing was begun: %v", err)
	})
}

func TestTheCredentialCanBeReplaced(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		b.client.SetHMAC("wrong-secret-key", AuthEdit)
		_, err := b.client.Machine(t.Context(), nobody)
		require.True(t, IsUnavailable(err), "%v", err)
		require.ErrorContains(t, err, "credential")
		require.NotContains(t, err.Error(), "wrong-secret-key")
		b.client.SetHMAC(simulator.DefaultHMAC.Admin, AuthAdmin)
		_, err = b.client.Machine(t.Context(), nobody)
		require.True(t, IsNotFound(err), "%v", err)
	})
}

func TestWhatNeverArrivedIsUnavailable(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}
	for name, c := range map[string]struct {
		err  error
		kind Kind
	}{
		"refused": {dial, Unavailable},
		"no host": {&net.DNSError{Err: "no such host", Name: "x"}, Unavailable},
		"reset":   {&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, Uncertain},
		"eof":     {io.ErrUnexpectedEOF, Uncertain},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
				b.wire.answer(func(*http.Request) (*http.Response, error) { return nil, c.err })
				_, err := b.client.FreeMachine(t.Context(), nobody)
				require.Equal(t, c.kind, KindOf(err))
				_, err = b.client.Machine(t.Context(), nobody)
				require.Equal(t, Unavailable, KindOf(err))
				var u *url.Error
				require.ErrorAs(t, err, &u)
			})
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		calls := 0
		b.wire.answer(func(r *http.Request) (*http.Response, error) {
			calls++
			resp, _ := respond(301, "text/html", "moved")(r)
			resp.Header.Set("Location", "https://metal-api.test/elsewhere")
			return resp, nil
		})
		_, err := b.client.Machine(t.Context(), nobody)
		require.True(t, IsUnavailable(err))
		require.ErrorContains(t, err, "URL")
		require.Equal(t, 1, calls)
	})
}

func TestNoSecretIsInAnyError(t *testing.T) {
	secret := "password: hunter22-hunter22"
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		for _, status := range []int{200, 400, 422, 500, 502} {
			// A proxy that shows what it could not deliver.
			b.wire.answer(func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				return respond(status, "text/html", "could not deliver "+string(body)+" "+secret+" of "+r.Header.Get("Authorization"))(r)
			})
			r := b.request("n")
			r.UserData = []byte(secret)
			_, err := b.client.AllocateMachine(t.Context(), r)
			require.True(t, IsUncertain(err))
			_, ferr := b.client.AllocateFirewall(t.Context(), FirewallRequest{MachineRequest: r})
			for _, err := range []error{err, ferr} {
				for e := err; e != nil; e = errors.Unwrap(e) {
					require.NotContains(t, e.Error(), encoded)
					require.NotContains(t, e.Error(), secret)
					require.NotContains(t, e.Error(), simulator.DefaultHMAC.Edit+" ")
					require.NotRegexp(t, `Metal-Edit [0-9a-f]{64}`, e.Error())
				}
			}
		}
	})
}

func TestAMachineWithoutEventsIsNotFoundByGetButFound(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, b.sim.DropEventContainer(id))
		_, err := b.client.Machine(t.Context(), id)
		require.True(t, IsNotFound(err), "%v", err)
		found, err := b.client.FindMachines(t.Context(), MachineQuery{ID: id})
		require.NoError(t, err)
		require.Len(t, found, 1)
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{
		{URL: "http://x"},
		{URL: "x.example/metal", HMAC: "k"},
		{URL: "ftp://x", HMAC: "k"},
		{URL: "http://x\x7f", HMAC: "k"},
	} {
		_, err := NewClient(o)
		require.Error(t, err, o.URL)
	}
}
