// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// catalogueServer is a server with networks and addresses of two projects.
type catalogueServer struct {
	*testserver.Server
	// networks and addresses are one of each namespace.
	networks, addresses map[string]string
}

func startCatalogue(t *testing.T) *catalogueServer {
	t.Helper()
	s := &catalogueServer{Server: testserver.Start(t, testserver.Options{
		Memory: true, SweepInterval: time.Hour, // what the metal-api is asked for is asked for by reads
	}), networks: map[string]string{}, addresses: map[string]string{}}
	for namespace, project := range map[string]string{testserver.NamespaceA: simulator.ProjectA, testserver.NamespaceB: simulator.ProjectB} {
		network, err := s.Metal.Sim.AllocateNetworkFor(project, simulator.DefaultPartition, "by-hand", nil)
		require.NoError(t, err)
		address, err := s.Metal.Sim.AllocateIPFor(project, simulator.InternetNetwork, "by-hand", nil)
		require.NoError(t, err)
		s.networks[namespace], s.addresses[namespace] = network, address
	}
	return s
}

func (s *catalogueServer) resource(resource, namespace string) dynamic.ResourceInterface {
	r := s.Dynamic().Resource(schema.GroupVersionResource{Group: group, Version: "v1alpha4", Resource: resource})
	if namespace == "" {
		return r
	}
	return r.Namespace(namespace)
}

func (s *catalogueServer) names(t *testing.T, resource, namespace string, opts metav1.ListOptions) []string {
	t.Helper()
	list, err := s.resource(resource, namespace).List(timeout(t), opts)
	require.NoError(t, err)
	names := []string{}
	for _, item := range list.Items {
		names = append(names, item.GetName())
	}
	return names
}

var readOnlyVerbs = []string{"get", "list", "watch"}

func TestCatalogue(t *testing.T) {
	t.Parallel()
	s := startCatalogue(t)
	t.Run("Discovery", func(t *testing.T) { s.catalogueIsDiscovered(t) })
	t.Run("Lists_ShowWhatASpecCanName", func(t *testing.T) { s.listsShowWhatASpecCanName(t) })
	t.Run("ForeignNames_AreNotFound", func(t *testing.T) { s.foreignNamesAreNotFound(t) })
	t.Run("Writes_AreRefused", func(t *testing.T) { s.writesAreRefused(t) })
	t.Run("Restart_KeepsUIDs", func(t *testing.T) { s.restartKeepsUIDs(t) })
	t.Run("Reads_ShareObservations", func(t *testing.T) { s.readsShareObservations(t) })
}

func (s *catalogueServer) catalogueIsDiscovered(t *testing.T) {
	client, err := discovery.NewDiscoveryClientForConfig(s.Config)
	require.NoError(t, err)
	for _, version := range []string{"v1alpha3", "v1alpha4"} {
		served, err := client.ServerResourcesForGroupVersion(group + "/" + version)
		require.NoError(t, err)
		found := map[string]metav1.APIResource{}
		for _, r := range served.APIResources {
			found[r.Name] = r
			if !strings.Contains(r.Name, "/") {
				assert.Contains(t, r.Categories, "metal-stack", r.Name)
			}
		}
		for name, short := range map[string]string{"metalstackprojects": "msproj", "metalstackpartitions": "mspart", "metalstacksizes": "mssize", "metalstackimages": "msimg"} {
			assert.ElementsMatch(t, readOnlyVerbs, found[name].Verbs, name)
			assert.Equal(t, []string{short}, found[name].ShortNames)
			assert.Equal(t, strings.TrimSuffix(name, "s"), found[name].SingularName)
			assert.Equal(t, name == "metalstackprojects", found[name].Namespaced, name)
		}
		for name, short := range map[string]string{"metalstacknetworks": "msnet", "metalstackips": "msip"} {
			assert.Contains(t, found[name].Verbs, "create")
			assert.Equal(t, []string{short}, found[name].ShortNames)
			assert.Equal(t, []string{"metal-stack"}, found[name].Categories, name)
		}
	}
}

func (s *catalogueServer) listsShowWhatASpecCanName(t *testing.T) {
	assert.Contains(t, s.names(t, "metalstacksizes", "", metav1.ListOptions{}), simulator.SmallSize)
	assert.Contains(t, s.names(t, "metalstackpartitions", "", metav1.ListOptions{}), simulator.DefaultPartition)
	assert.NotEmpty(t, s.names(t, "metalstackimages", "", metav1.ListOptions{}))
	assert.Equal(t, []string{simulator.ProjectA}, s.names(t, "metalstackprojects", testserver.NamespaceA, metav1.ListOptions{}))
	for _, revision := range []string{"", "0"} { // The former observes what the latter shows.
		opts := metav1.ListOptions{ResourceVersion: revision}
		for own, other := range map[string]string{testserver.NamespaceA: testserver.NamespaceB, testserver.NamespaceB: testserver.NamespaceA} {
			networks, addresses := s.names(t, "metalstacknetworks", own, opts), s.names(t, "metalstackips", own, opts)
			assert.Contains(t, networks, s.networks[own], "at %q", revision)
			assert.Contains(t, networks, simulator.InternetNetwork, "at %q", revision)
			assert.NotContains(t, networks, s.networks[other])
			assert.Contains(t, addresses, s.addresses[own], "at %q", revision)
			assert.NotContains(t, addresses, s.addresses[other])
		}
	}
	assert.Empty(t, s.names(t, "metalstacknetworks", testserver.NamespaceA, metav1.ListOptions{FieldSelector: "status.managed=true"}))
	assert.Empty(t, s.names(t, "metalstacknetworks", "unbound", metav1.ListOptions{}))
}

// What is another project's is answered like what does not exist.
func (s *catalogueServer) foreignNamesAreNotFound(t *testing.T) {
	for resource, foreign := range map[string]string{
		"metalstacknetworks": s.networks[testserver.NamespaceB], "metalstackips": s.addresses[testserver.NamespaceB], "metalstackprojects": simulator.ProjectB,
	} {
		client := s.resource(resource, testserver.NamespaceA)
		for _, name := range []string{foreign, "unknown"} {
			_, err := client.Get(timeout(t), name, metav1.GetOptions{})
			require.True(t, apierrors.IsNotFound(err), "%v", err)
			assert.Equal(t, resource+"."+group+` "`+name+`" not found`, err.Error())
		}
	}
}

func (s *catalogueServer) writesAreRefused(t *testing.T) {
	for _, resource := range []string{"metalstackprojects", "metalstackpartitions", "metalstacksizes", "metalstackimages"} {
		namespace := ""
		if resource == "metalstackprojects" {
			namespace = testserver.NamespaceA
		}
		client := s.resource(resource, namespace)
		name := s.names(t, resource, namespace, metav1.ListOptions{})[0]
		obj, err := client.Get(timeout(t), name, metav1.GetOptions{})
		require.NoError(t, err)
		for verb, request := range requests {
			if slices.Contains([]string{"status", "allocate", "allocate another", "release"}, verb) {
				continue
			}
			for _, dry := range [][]string{nil, {metav1.DryRunAll}} {
				err := request(timeout(t), client, obj, dry)
				assert.True(t, apierrors.IsMethodNotSupported(err), "%s of %s, dry run %v: %v", verb, resource, dry, err)
			}
		}
	}
	for resource, name := range map[string]string{"metalstacknetworks": s.networks[team], "metalstackips": s.addresses[team]} {
		client := s.resource(resource, team)
		for _, dry := range [][]string{nil, {metav1.DryRunAll}} {
			for verb, err := range map[string]error{
				"delete": client.Delete(timeout(t), name, metav1.DeleteOptions{DryRun: dry}),
				"label":  second(client.Patch(timeout(t), name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{DryRun: dry})),
				"status": second(client.Patch(timeout(t), name, types.MergePatchType, []byte(`{"status":{"conditions":[]}}`), metav1.PatchOptions{DryRun: dry}, "status")),
			} {
				require.True(t, apierrors.IsForbidden(err), "%s of %s, dry run %v: %v", verb, resource, dry, err)
				assert.ErrorContains(t, err, "discovered metal is read-only: to manage it, create a MetalStack")
			}
		}
		require.NoError(t, client.DeleteCollection(timeout(t), metav1.DeleteOptions{}, metav1.ListOptions{}), "it leaves out what is discovered")
		require.Contains(t, s.names(t, resource, team, metav1.ListOptions{}), name)
	}
}

func second(_ *unstructured.Unstructured, err error) error { return err }

func (s *catalogueServer) restartKeepsUIDs(t *testing.T) {
	uids := func() map[string]types.UID {
		found := map[string]types.UID{}
		for _, resource := range []string{"metalstackprojects", "metalstackpartitions", "metalstacksizes", "metalstackimages", "metalstacknetworks", "metalstackips"} {
			list, err := s.resource(resource, "").List(timeout(t), metav1.ListOptions{})
			require.NoError(t, err)
			for _, item := range list.Items {
				assert.NotEmpty(t, item.GetUID())
				found[resource+"/"+item.GetNamespace()+"/"+item.GetName()] = item.GetUID()
			}
		}
		return found
	}
	before := uids()
	s.Restart()
	assert.Equal(t, before, uids())
}

// Clients that read as often as they can cost the metal-api no more than the reads that follow
// each other: reads at the same time share one observation, and lists of the catalogue are read
// once in seconds.
func (s *catalogueServer) readsShareObservations(t *testing.T) {
	const clients, reads = 20, 5
	s.Metal.Sim.ResetCalls()
	began := time.Now()
	var answered atomic.Int64
	var readers sync.WaitGroup
	for _, resource := range []string{"metalstackprojects", "metalstackpartitions", "metalstacksizes", "metalstackimages", "metalstacknetworks", "metalstackips"} {
		for range clients {
			readers.Go(func() {
				for range reads {
					if _, err := s.resource(resource, "").List(t.Context(), metav1.ListOptions{}); err == nil {
						answered.Add(1)
					}
				}
			})
		}
	}
	readers.Wait()
	mostLists := 2 + int(time.Since(began)/(5*time.Second))
	calls := 0
	for _, c := range s.Metal.Sim.Calls() {
		calls += c.Calls
	}
	t.Logf("%d reads, %d calls", answered.Load(), calls)
	assert.Less(t, 3*calls, int(answered.Load()))
	for _, list := range []string{"partition-list", "size-list", "image-list", "project-list"} {
		assert.LessOrEqual(t, s.Metal.Sim.CallsOf(list), mostLists, list)
	}
}
