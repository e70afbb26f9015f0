// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// A firewall-controller that is told that its Firewall is gone lets everything through, and
// its machine still runs when the Firewall goes. Lists do not show it.
func TestFirewalls_WatchOfControllersKeepsFirewallsThatAreGone(t *testing.T) {
	for name, remove := range map[string]func(*testing.T, *firewallsEnvironment){
		"moved": func(t *testing.T, w *firewallsEnvironment) {
			w.change(t, "team-a", "fw-1", func(f *infrastructure.MetalStackFirewall) {
				f.Annotations = map[string]string{infrastructure.DeleteForMoveAnnotation: ""}
				f.Finalizers = nil
			})
			_, _, err := w.origins.Delete(in("team-a"), "fw-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			require.NoError(t, err)
		},
		"released": func(t *testing.T, w *firewallsEnvironment) {
			for _, phase := range []infrastructure.AllocationPhase{infrastructure.AllocationReleasing, infrastructure.AllocationReleased} {
				w.change(t, "team-a", "fw-1", func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation.Phase = phase })
			}
		},
		"freed by another client": func(_ *testing.T, w *firewallsEnvironment) {
			w.facts["machine-of-fw-1"].Allocation = nil
			w.backend.MetalChanged([]metal.Ref{{Kind: metal.KindMachine, ID: "machine-of-fw-1"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
				w.allocate(t, "team-a", "fw-1", controlled())
				last := map[string]watch.EventType{
					"system:serviceaccount:team-a:rose-firewall-controller": watch.Modified,
					"system:serviceaccount:team-b:rose-firewall-controller": watch.Deleted,
					"system:serviceaccount:team-a:rose-metalapi":            watch.Deleted,
					"rose-firewall-controller":                              watch.Deleted,
					"alice":                                                 watch.Deleted,
				}
				watches := map[string]watch.Interface{}
				for who := range last {
					w.set(who, "team-a", true)
					watches[who] = w.watch(t, as(who, "team-a"), metainternalversion.ListOptions{})
					expect(t, watches[who], "ADDED fw-1-host")
				}
				remove(t, w)
				w.allocate(t, "team-a", "fw-2", controlled())
				for who, want := range last {
					var got watch.Event
					for event := range watches[who].ResultChan() {
						if event.Type == watch.Added {
							assert.Equal(t, "fw-2-host", event.Object.(*firewallv2.Firewall).Name)
							break
						}
						got = event
					}
					assert.Equal(t, want, got.Type, who)
					assert.Equal(t, "fw-1-host", got.Object.(*firewallv2.Firewall).Name, who)
					list, err := w.firewalls.List(as(who, "team-a"), nil)
					assert.Equal(t, []string{"fw-2-host"}, names(t, list, err), who)
				}
			})
		})
	}
}

func TestFirewalls_TableOfWatchHasBookmarks(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		events := w.watch(t, in("team-a"), metainternalversion.ListOptions{
			SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		})
		bookmark := <-events.ResultChan()
		require.Equal(t, watch.Bookmark, bookmark.Type)
		table, err := w.firewalls.ConvertToTable(in("team-a"), bookmark.Object, nil)
		require.NoError(t, err)
		assert.Equal(t, bookmark.Object.(*firewallv2.Firewall).ResourceVersion, table.ResourceVersion)
	})
}
