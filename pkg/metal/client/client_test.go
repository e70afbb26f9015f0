// SPDX-License-Identifier: Apache-2.0

package client

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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

func TestClient_MakesEveryCall(t *testing.T) {
	srv := simtest.Start(t, simulator.Config{BasePath: "/metal"})
	reg := prometheus.NewRegistry()
	c, err := New(Options{URL: srv.URL, HMAC: srv.Key(AuthEdit), Registerer: reg})
	require.NoError(t, err)
	ctx := t.Context()

	network, err := c.AllocateNetwork(ctx, metal.NetworkRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "n",
		Labels: map[string]string{metal.TagUID: "net-uid"},
	})
	require.NoError(t, err)
	require.Equal(t, "net-uid", network.UID())
	require.Equal(t, simulator.SuperNetwork, network.ParentNetworkID)
	read, err := c.Network(ctx, network.ID)
	require.NoError(t, err)
	require.Equal(t, network, read, "the answer of a write equals the next read")
	networks, err := c.FindNetworks(ctx, metal.NetworkQuery{Project: simulator.ProjectA, Labels: map[string]string{metal.TagUID: "net-uid"}})
	require.NoError(t, err)
	require.Equal(t, []*metal.Network{network}, networks)

	ip, err := c.AllocateIP(ctx, metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Name: "lb", Type: metal.TypeStatic, Tags: []string{"z", metal.Tag(metal.TagUID, "ip-uid")}})
	require.NoError(t, err)
	require.Equal(t, "ip-uid", ip.UID())
	ips, err := c.FindIPs(ctx, metal.IPQuery{Project: simulator.ProjectA, Tags: []string{metal.Tag(metal.TagUID, "ip-uid")}})
	require.NoError(t, err)
	require.Equal(t, []*metal.IP{ip}, ips)
	_, err = c.AllocateIP(ctx, metal.IPRequest{Address: ip.Address, Project: simulator.ProjectB, Network: simulator.InternetNetwork})
	require.Equal(t, metal.Conflict, metal.KindOf(err), "%v", err)

	machine, err := c.AllocateMachine(ctx, metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.MachineImage,
		Name: "node-1", Hostname: "node-1", Networks: []string{network.ID}, Tags: []string{metal.Tag(metal.TagUID, "uid-1")}, UserData: []byte("hello"),
	})
	require.NoError(t, err)
	require.Equal(t, "uid-1", machine.UID())
	require.Equal(t, metal.RoleMachine, machine.Allocation.Role)
	require.True(t, machine.InTransition())
	account, _ := srv.Sim.Inventory().Machine(machine.ID)
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte("hello")), account.UserData)
	found, err := c.FindMachines(ctx, metal.MachineQuery{Project: simulator.ProjectA, Tags: []string{metal.Tag(metal.TagUID, "uid-1")}})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, machine.Allocation, found[0].Allocation)
	got, err := c.Machine(ctx, machine.ID)
	require.NoError(t, err)
	require.Equal(t, found[0], got)

	firewall, err := c.AllocateFirewall(ctx, metal.FirewallRequest{
		MachineRequest: metal.MachineRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.FirewallImage,
			Name: "fw", Hostname: "fw", Networks: []string{network.ID, simulator.InternetNetwork},
		},
		Rules: &metal.FirewallRules{
			Egress:  []metal.EgressRule{{Protocol: "tcp", Ports: []int32{443}, To: []string{"0.0.0.0/0"}, Comment: "https"}},
			Ingress: []metal.IngressRule{{Protocol: "udp", Ports: []int32{51820}, From: []string{"203.0.113.0/24"}, To: []string{"10.0.0.0/16"}}},
		},
	})
	require.NoError(t, err)
	require.Equal(t, metal.RoleFirewall, firewall.Allocation.Role)
	all, err := c.ListMachines(ctx)
	require.NoError(t, err)
	require.Len(t, all, 8)

	_, err = c.FreeNetwork(ctx, network.ID)
	require.Equal(t, metal.Conflict, metal.KindOf(err), "addresses hold it: %v", err)
	for _, id := range []string{machine.ID, firewall.ID} {
		freed, err := c.FreeMachine(ctx, id)
		require.NoError(t, err)
		require.Nil(t, freed.Allocation)
	}
	srv.Sim.Advance()
	_, err = c.FreeNetwork(ctx, network.ID)
	require.NoError(t, err)
	_, err = c.FreeNetwork(ctx, network.ID)
	require.True(t, metal.IsNotFound(err))
	_, err = c.FreeIP(ctx, ip.Address)
	require.NoError(t, err)
	_, err = c.IP(ctx, ip.Address)
	require.True(t, metal.IsNotFound(err))
	ips, err = c.FindIPs(ctx, metal.IPQuery{Address: ip.Address})
	require.NoError(t, err)
	require.Empty(t, ips)

	require.Positive(t, testutil.CollectAndCount(reg, MetricCalls, MetricCallSeconds, MetricCallsInFlight))
}

func TestError_CarriesTheMetalAPIsMessage(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		r := metaltest.MachineRequest(e.network(simulator.ProjectA))
		r.Size = "nope"
		_, err := e.client.AllocateMachine(t.Context(), r)
		require.Equal(t, metal.Refused, metal.KindOf(err))
		require.EqualError(t, err, `metal-api: machine allocate: size:nope not found err:NotFound no size with id "nope" found`)
	})
}

func TestWrite_SurvivesCancellationOfItsCaller(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		r := metaltest.MachineRequest(e.network(simulator.ProjectA))
		e.sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultLatency, Latency: 20 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := e.client.AllocateMachine(ctx, r)
		require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began), "a caller that gives up gets its answer at once")
		require.Empty(t, e.sim.Inventory().AllocatedIn(simulator.ProjectA))

		time.Sleep(19*time.Second + time.Millisecond)
		require.Len(t, e.sim.Inventory().AllocatedIn(simulator.ProjectA), 1)
		// Listeners are called even with an answer that no caller waited for.
		require.Equal(t, []string{"", "uid-1"}, e.learned(), "the network and the machine")
	})
}

func TestClient_SendsNothingForAnEndedContext(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := e.client.FreeMachine(ctx, metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err))
		_, err = e.client.Machine(ctx, metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err))
		require.Zero(t, e.sim.CallsOf("machine-free")+e.sim.CallsOf("machine-get"))
	})
}

func TestClient_EveryCallHasADeadline(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		r := metaltest.MachineRequest(e.network(simulator.ProjectA))
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultHang})
		for _, call := range []struct {
			kind metal.Kind
			took time.Duration
			do   func(context.Context) error
		}{
			{metal.Unavailable, 5 * time.Second, func(ctx context.Context) error { _, err := e.client.Machine(ctx, metaltest.NoSuchID); return err }},
			{metal.Unavailable, 15 * time.Second, func(ctx context.Context) error {
				_, err := e.client.FindMachines(ctx, metal.MachineQuery{})
				return err
			}},
			{metal.Unavailable, time.Minute, func(ctx context.Context) error { _, err := e.client.ListMachines(ctx); return err }},
			{metal.Uncertain, 5 * time.Minute, func(ctx context.Context) error { _, err := e.client.AllocateMachine(ctx, r); return err }},
			{metal.Uncertain, 2 * time.Minute, func(ctx context.Context) error { _, err := e.client.FreeMachine(ctx, metaltest.NoSuchID); return err }},
		} {
			began := time.Now()
			err := call.do(t.Context())
			require.Equal(t, call.kind, metal.KindOf(err), "%v", err)
			require.Equal(t, call.took, time.Since(began))
		}
	})
}

func TestWrite_LostReplyIsUncertain(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		r := metaltest.MachineRequest(e.network(simulator.ProjectA))
		e.sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultCommitThenLose, Times: 1})
		_, err := e.client.AllocateMachine(t.Context(), r)
		require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
		require.Len(t, e.sim.Inventory().AllocatedIn(simulator.ProjectA), 1)
	})
}

func TestClient_RejectsInvalidAnswers(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		network := e.network(simulator.ProjectA)
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultTruncatedBody})
		_, err := e.client.ListMachines(t.Context())
		require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
		_, err = e.client.Network(t.Context(), network)
		require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
		_, err = e.client.AllocateMachine(t.Context(), metaltest.MachineRequest(network))
		require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
		require.Len(t, e.sim.Inventory().AllocatedIn(simulator.ProjectA), 1, "it was done")

		for _, body := range []string{"", "{}", "null", "<html>", `{"id":""}`, `{"id":"x"} {"id":"y"}`, `{"id":"x"`, `[]`, `"x"`} {
			e.transport.Answer(metaltest.Respond(200, "application/json", body))
			_, err = e.client.Machine(t.Context(), metaltest.NoSuchID)
			require.Equal(t, metal.Unavailable, metal.KindOf(err), "%q: %v", body, err)
			_, err = e.client.Network(t.Context(), metaltest.NoSuchID)
			require.Equal(t, metal.Unavailable, metal.KindOf(err), "%q: %v", body, err)
			_, err = e.client.AllocateNetwork(t.Context(), metal.NetworkRequest{})
			require.Equal(t, metal.Uncertain, metal.KindOf(err), "%q: %v", body, err)
			_, err = e.client.AllocateMachine(t.Context(), metal.MachineRequest{})
			require.Equal(t, metal.Uncertain, metal.KindOf(err), "%q: %v", body, err)
		}
		for _, body := range []string{"", "{}", "<html>", `[{"id":"x"}`, `[{}]`, `[{"id":"x"},null]`, `[] []`, `[{"id":"x"}]x`} {
			e.transport.Answer(metaltest.Respond(200, "text/html", body))
			_, err = e.client.ListMachines(t.Context())
			require.Equal(t, metal.Unavailable, metal.KindOf(err), "%q: %v", body, err)
		}
		for _, body := range []string{"null", "[]", " [ ] \n"} {
			e.transport.Answer(metaltest.Respond(200, "application/json", body))
			all, err := e.client.ListMachines(t.Context())
			require.NoError(t, err)
			require.Empty(t, all)
		}
	})
}

func TestClient_RejectsAnswerBeyondSizeLimit(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.transport.Answer(metaltest.Respond(200, "application/json", `{"id":"x","rackid":"`+strings.Repeat("x", maxEntityBytes)+`"}`))
		_, err := e.client.Machine(t.Context(), metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err))
		require.ErrorIs(t, err, errTooLarge)
	})
}

func TestClient_WrongBasePathIsUnavailable(t *testing.T) {
	runTest(t, envConfig{sim: simulator.Config{BasePath: "/metal"}}, func(t *testing.T, e *env) {
		_, err := e.client.Machine(t.Context(), metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "base path")
		_, err = e.client.FreeMachine(t.Context(), metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err), "nothing was begun: %v", err)
	})
}

func TestClient_SetHMACReplacesCredential(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.client.SetHMAC("wrong-secret-key", AuthEdit)
		_, err := e.client.Machine(t.Context(), metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "credential")
		require.NotContains(t, err.Error(), "wrong-secret-key")
		e.client.SetHMAC(simulator.DefaultHMAC.Admin, AuthAdmin)
		_, err = e.client.Machine(t.Context(), metaltest.NoSuchID)
		require.True(t, metal.IsNotFound(err), "%v", err)
	})
}

func TestClient_RequestThatWasNotSentIsUnavailable(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}
	for name, c := range map[string]struct {
		err  error
		kind metal.Kind
	}{
		"refused": {dial, metal.Unavailable},
		"no host": {&net.DNSError{Err: "no such host", Name: "x"}, metal.Unavailable},
		"reset":   {&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, metal.Uncertain},
		"eof":     {io.ErrUnexpectedEOF, metal.Uncertain},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{}, func(t *testing.T, e *env) {
				e.transport.Answer(func(*http.Request) (*http.Response, error) { return nil, c.err })
				_, err := e.client.FreeMachine(t.Context(), metaltest.NoSuchID)
				require.Equal(t, c.kind, metal.KindOf(err))
				_, err = e.client.Machine(t.Context(), metaltest.NoSuchID)
				require.Equal(t, metal.Unavailable, metal.KindOf(err))
				var u *url.Error
				require.ErrorAs(t, err, &u)
			})
		})
	}
}

func TestClient_DoesNotFollowRedirects(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		calls := 0
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			calls++
			resp, _ := metaltest.Respond(301, "text/html", "moved")(r)
			resp.Header.Set("Location", "https://metal-api.test/elsewhere")
			return resp, nil
		})
		_, err := e.client.Machine(t.Context(), metaltest.NoSuchID)
		require.Equal(t, metal.Unavailable, metal.KindOf(err))
		require.ErrorContains(t, err, "URL")
		require.Equal(t, 1, calls)
	})
}

func TestError_HoldsNoSecret(t *testing.T) {
	for name, secret := range map[string]string{
		"one line": "password: hunter22-hunter22", "lines": "#cloud-config\n\n  password: hunter22-hunter22\n",
	} {
		t.Run(name, func(t *testing.T) { errorsHoldNoSecret(t, secret) })
	}
}

func errorsHoldNoSecret(t *testing.T, secret string) {
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		for _, status := range []int{200, 400, 422, 500, 502} {
			// A proxy that shows what it could not deliver.
			e.transport.Answer(func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				return metaltest.Respond(status, "text/html", "could not deliver "+string(body)+" "+secret+" of "+r.Header.Get("Authorization"))(r)
			})
			r := metaltest.MachineRequest("n")
			r.UserData = []byte(secret)
			_, err := e.client.AllocateMachine(t.Context(), r)
			require.Equal(t, metal.Uncertain, metal.KindOf(err))
			_, ferr := e.client.AllocateFirewall(t.Context(), metal.FirewallRequest{MachineRequest: r})
			for _, err := range []error{err, ferr} {
				for e := err; e != nil; e = errors.Unwrap(e) {
					require.NotContains(t, e.Error(), encoded)
					require.NotContains(t, e.Error(), secret)
					require.NotContains(t, e.Error(), "hunter22")
					require.NotContains(t, e.Error(), simulator.DefaultHMAC.Edit+" ")
					require.NotRegexp(t, `Metal-Edit [0-9a-f]{64}`, e.Error())
				}
			}
		}
	})
}

// A message is cut before user data is looked for in it.
func TestError_HoldsNoBeginningOfUserData(t *testing.T) {
	const secret = "#cloud-config\npassword: hunter22-hunter22\n"
	// The encoded form shares no word of the other.
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		for _, echoed := range []string{secret, encoded} {
			for cut := range len(echoed) {
				e.transport.Answer(metaltest.Respond(http.StatusBadGateway, "text/plain", strings.Repeat("x", metal.MaxMessage-cut-5)+" "+echoed+strings.Repeat("y", 2*len(echoed))))
				r := metaltest.MachineRequest("n")
				r.UserData = []byte(secret)
				_, err := e.client.AllocateMachine(t.Context(), r)
				for err := err; err != nil; err = errors.Unwrap(err) {
					require.NotContains(t, err.Error(), "#cloud", "cut after %d bytes", cut)
					require.NotContains(t, err.Error(), "hunter", "cut after %d bytes", cut)
					require.NotContains(t, err.Error(), encoded[:6], "cut after %d bytes", cut)
				}
			}
		}
	})
}

func TestClient_MachineWithoutEventsIsFoundByFindOnly(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA)
		require.NoError(t, e.sim.DropEventContainer(id))
		_, err := e.client.Machine(t.Context(), id)
		require.True(t, metal.IsNotFound(err), "%v", err)
		found, err := e.client.FindMachines(t.Context(), metal.MachineQuery{ID: id})
		require.NoError(t, err)
		require.Len(t, found, 1)
	})
}

func TestNew_ValidatesOptions(t *testing.T) {
	for _, o := range []Options{
		{URL: "http://x"},
		{URL: "x.example/metal", HMAC: "k"},
		{URL: "ftp://x", HMAC: "k"},
		{URL: "http://x\x7f", HMAC: "k"},
		{URL: "http://x/v1", HMAC: "k"},
	} {
		_, err := New(o)
		require.Error(t, err, o.URL)
	}
}

func TestParseURL(t *testing.T) {
	for text, message := range map[string]string{
		"http://api.example.org":                 "",
		"https://api.example.org:8443/metal/":    "",
		"https://api.example.org/metal/v1alpha1": "",
		"https://api.example.org/metal/v1":       `--metal-api-url must have the base path without /v1, which is added to it, such as "https://api.example.org/metal", got "https://api.example.org/metal/v1"`,
		"https://api.example.org/v1//":           `such as "https://api.example.org", got`,
		"https://me:12/secret@a.example.org/v1":  `must have no user and no password, and no @, such as https://api.example.org/metal: requests are signed`,
		"https://me:secret@api.example.org":      `must have no user and no password, got one in "https://api.example.org", such as https://api.example.org/metal: requests are signed with the HMAC key`,
		"https://api.example.org/metal?x=secret": `must have no query and no fragment, such as https://api.example.org/metal, got one after "https://api.example.org/metal"`,
		"api.example.org/metal":                  "must begin with http:// or https:// and a host",
	} {
		u, err := ParseURL("--metal-api-url", text)
		if message == "" {
			require.NoError(t, err, text)
			require.Equal(t, text, u.String())
			continue
		}
		require.ErrorContains(t, err, message, text)
		require.NotContains(t, err.Error(), "secret", text)
	}
}
