// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// playedKinds are the kinds of a cluster in memory.
type playedKinds struct {
	scheme *runtime.Scheme
	mapper meta.RESTMapper
}

// newClient builds a client that does not keep managed fields: nothing here applies.
func (k playedKinds) newClient() *fake.ClientBuilder {
	tracker := clienttesting.NewObjectTracker(k.scheme, serializer.NewCodecFactory(k.scheme).UniversalDecoder())
	return fake.NewClientBuilder().WithScheme(k.scheme).WithRESTMapper(k.mapper).WithObjectTracker(tracker)
}

// remediationKinds are the kinds of both clusters. All tests share them, as building them takes
// longer than most of the tests.
var remediationKinds = sync.OnceValue(func() (kinds struct {
	management, workload playedKinds
	err                  error
}) {
	management, err := NewScheme()
	if err != nil {
		kinds.err = err
		return kinds
	}
	kinds.management = playedKinds{management, mapperOf(management)}
	kinds.workload.scheme, kinds.workload.mapper, kinds.err = workloadKinds()
	return kinds
})
