// SPDX-License-Identifier: Apache-2.0

package replicas_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// BenchmarkFailover5000 is how long requests wait when an active server stops
// that has 5,000 records, and what its successor needs of that.
func BenchmarkFailover5000(b *testing.B) {
	const n = 5000
	env := newEnvironment(b)
	active, standby := env.pair()
	env.fill(n)
	// The records are news to both of them.
	active.Stop(b)
	env.awaitActive(standby)
	active.Pod.Delete(b)
	var failover float64
	for b.Loop() {
		active, standby = env.pair()
		active.Stop(b)
		env.awaitActive(standby)
		active.Pod.Delete(b)
		seconds, err := strconv.ParseFloat(env.gauge(standby, "metalstack_replica_failover_duration_seconds_sum"), 64)
		require.NoError(b, err)
		failover += seconds
		list, err := env.direct(standby).MetalStackMachines(team).List(env.context(), metav1.ListOptions{ResourceVersion: "0"})
		require.NoError(b, err)
		require.Len(b, list.Items, n)
	}
	b.ReportMetric(failover/float64(b.N), "s/failover")
}

// fill writes records of machines, as the server would.
func (env *environment) fill(n int) {
	env.t.Helper()
	account := env.ServiceAccount(env.t, cluster.Namespace, cluster.APIServer)
	l, err := kubernetes.New(account, cluster.Namespace)
	require.NoError(env.t, err)
	var wg sync.WaitGroup
	numbers := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range numbers {
				name := fmt.Sprintf("node-%04d", i)
				value, err := json.Marshal(map[string]any{"object": map[string]any{
					"apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha4", "kind": "MetalStackMachine",
					"metadata": map[string]any{
						"name": name, "namespace": team, "uid": uuid.NewString(), "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
						"labels":     map[string]string{"cluster.x-k8s.io/cluster-name": "c", "node": name},
						"finalizers": []string{"metalstackmachine.infrastructure.cluster.x-k8s.io"},
						"managedFields": []any{map[string]any{
							"manager": "manager", "operation": "Apply", "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha4", "fieldsType": "FieldsV1",
							"fieldsV1": map[string]any{"f:metadata": map[string]any{"f:labels": map[string]any{"f:node": map[string]any{}}}, "f:spec": map[string]any{"f:image": map[string]any{}, "f:machineType": map[string]any{}}},
						}},
					},
					"spec": map[string]any{"image": "ubuntu-24.04", "machineType": "v1-small-x86", "partition": "fra-01"},
				}})
				if err == nil {
					_, err = l.Create(env.context(), "metalstackmachines/"+team+"/"+name, value)
				}
				if err != nil {
					env.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}
