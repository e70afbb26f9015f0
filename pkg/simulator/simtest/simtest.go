// Package simtest serves a simulator to a test over loopback HTTP.
package simtest

import (
	"net/http/httptest"
	"testing"

	metalgo "github.com/metal-stack/metal-go"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// Server is a simulator behind a loopback listener.
type Server struct {
	Sim *simulator.Simulator
	// URL is the base URL for metal-go clients, without /v1.
	URL string
	// Client holds the Admin key; Edit and View hold theirs.
	Client, Edit, View metalgo.Client
}

// Start serves a simulator until the test ends. It does not call Run.
func Start(t testing.TB, cfg simulator.Config) *Server {
	t.Helper()
	sim, err := simulator.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	client := func(key, def, user string) metalgo.Client {
		if key == "" {
			key = def
		}
		c, err := metalgo.NewClient(srv.URL, metalgo.HMACAuth(key, user))
		require.NoError(t, err)
		return c
	}
	return &Server{
		Sim: sim, URL: srv.URL,
		Client: client(cfg.HMAC.Admin, simulator.DefaultHMAC.Admin, "Metal-Admin"),
		Edit:   client(cfg.HMAC.Edit, simulator.DefaultHMAC.Edit, "Metal-Edit"),
		View:   client(cfg.HMAC.View, simulator.DefaultHMAC.View, "Metal-View"),
	}
}
