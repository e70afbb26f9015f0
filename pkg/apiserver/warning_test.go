// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// received keeps the warnings that a client gets.
type received struct {
	mu   sync.Mutex
	said []string
}

func (r *received) HandleWarningHeader(_ int, _, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text)
}

// A warning goes from the metal-api's words through the whole server to a
// client; on the way a header with a line break would be dropped.
func TestWarning_IsOneLineIfMetalAPIMessageHasLineBreaks(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	var got received
	config := rest.CopyConfig(s.Config)
	config.WarningHandler = &got
	client, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	api := client.InfrastructureV1alpha4()

	repair := s.Metal.Sim.Inject(simulator.Fault{
		Endpoint: "*", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity,
		Message: "rethinkdb: no primary\n\tserver 1: away\r\nserver 2: away\x1b[0m" + strings.Repeat(" and so on", 1000),
	})
	for name, list := range map[string]func() error{
		"machines of a namespace": func() error {
			_, err := api.MetalStackMachines(testserver.NamespaceA).List(t.Context(), metav1.ListOptions{})
			return err
		},
		"firewalls of a namespace": func() error {
			_, err := api.MetalStackFirewalls(testserver.NamespaceA).List(t.Context(), metav1.ListOptions{})
			return err
		},
		"machines of all": func() error {
			_, err := api.MetalStackMachines(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
			return err
		},
	} {
		got.said = nil
		require.NoError(t, list(), name)
		require.NotEmpty(t, got.said, "%s: a list from old state says so", name)
		assert.Contains(t, got.said[0], "stale", name)
		assert.Contains(t, got.said[0], "rethinkdb: no primary server 1: away server 2: away", name)
	}
	repair()
}
