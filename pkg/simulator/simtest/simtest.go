// SPDX-License-Identifier: Apache-2.0

// Package simtest serves a simulator to a test over loopback HTTP.
package simtest

import (
	"net/http/httptest"
	"strings"
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
	// Client holds the Admin's key; Edit and View hold theirs.
	Client, Edit, View metalgo.Client

	cfg simulator.Config
	t   testing.TB
}

// Start serves a simulator until the test ends. It does not call Run: whatever
// is due happens before the next request is answered.
func Start(t testing.TB, cfg simulator.Config) *Server {
	t.Helper()
	sim, err := simulator.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(func() {
		sim.Close()
		srv.CloseClientConnections()
		srv.Close()
	})
	s := &Server{Sim: sim, URL: srv.URL + cfg.BasePath, cfg: cfg, t: t}
	s.Client = s.NewClient("Metal-Admin")
	s.Edit = s.NewClient("Metal-Edit")
	s.View = s.NewClient("Metal-View")
	return s
}

// Key is the HMAC key of Metal-Admin, Metal-Edit or Metal-View.
func (s *Server) Key(user string) string {
	keys := map[string][2]string{
		"Metal-Admin": {s.cfg.HMAC.Admin, simulator.DefaultHMAC.Admin},
		"Metal-Edit":  {s.cfg.HMAC.Edit, simulator.DefaultHMAC.Edit},
		"Metal-View":  {s.cfg.HMAC.View, simulator.DefaultHMAC.View},
	}[user]
	if keys[0] != "" {
		return keys[0]
	}
	return keys[1]
}

// NewClient is another metal-go client with the key of Metal-Admin, Metal-Edit
// or Metal-View.
func (s *Server) NewClient(user string) metalgo.Client {
	s.t.Helper()
	c, err := metalgo.NewClient(strings.TrimSuffix(s.URL, "/"), metalgo.HMACAuth(s.Key(user), user))
	require.NoError(s.t, err)
	return c
}
