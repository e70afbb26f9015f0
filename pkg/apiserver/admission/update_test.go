// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

// outdated has ValidatingAdmissionPolicies not found, as by a kube-apiserver that is not
// updated yet, until the returned value is false.
func (e *environment) outdated() *atomic.Bool {
	var is atomic.Bool
	is.Store(true)
	e.client.PrependReactor("list", "validatingadmissionpolicies", func(a clientgotesting.Action) (bool, runtime.Object, error) {
		return is.Load(), nil, apierrors.NewNotFound(a.GetResource().GroupResource(), "")
	})
	return &is
}

func TestAdmission_GoesOnWhileTheClusterIsUpdated(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		env.discovery.serve("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
		outdated := env.outdated()
		env.start(t)
		require.NoError(t, env.admit(t, ""))
		env.discovery.serve(served...)
		for range 3 {
			<-time.After(discoveryInterval)
			require.NoError(t, env.admit(t, ""), "what was not applied is not until it was read")
			require.NoError(t, env.ReadyzCheck().Check(nil))
		}
		outdated.Store(false)
		<-time.After(discoveryInterval)
		require.ErrorContains(t, env.admit(t, ""), "nothing is allowed")
		outdated.Store(true)
		env.discovery.serve()
		<-time.After(discoveryInterval)
		require.ErrorContains(t, env.admit(t, ""), "nothing is allowed", "what was read once is applied")
	}, refusingPolicy()...)
}

func TestAdmission_NoLongerWaitsForWhatTheClusterDoesNotServe(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		outdated := env.outdated()
		env.start(t)
		err := env.admit(t, "")
		require.ErrorContains(t, err, "validatingadmissionpolicies.admissionregistration.k8s.io could not be read yet")
		assert.NotContains(t, err.Error(), "namespaces")
		assert.NotContains(t, err.Error(), "policybindings", "these were read")
		require.Error(t, env.ReadyzCheck().Check(nil))

		env.discovery.serve("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
		<-time.After(unsyncedInterval)
		require.NoError(t, env.admit(t, ""))
		require.NoError(t, env.ReadyzCheck().Check(nil))

		env.discovery.serve(served...)
		outdated.Store(false)
		<-time.After(2 * discoveryInterval)
		require.ErrorContains(t, env.admit(t, ""), "nothing is allowed")
	}, refusingPolicy()...)
}

func TestPlugin_WaitsForRightsToWhatIsServedLater(t *testing.T) {
	t.Parallel()
	p := &plugin{}
	assert.NotEmpty(t, p.unready())
	forbidden := &source{resource: admissionregistrationv1.SchemeGroupVersion.WithResource("mutatingadmissionpolicies"), informer: &stubInformer{}}
	p.state.Store(&pluginState{serving: servedLater, inner: &inner{sources: []*source{forbidden}}})
	assert.Empty(t, p.unready())
	forbidden.observe(apierrors.NewForbidden(forbidden.resource.GroupResource(), "", errors.New("no right")))
	assert.Contains(t, p.unready(), "this server may not read mutatingadmissionpolicies.admissionregistration.k8s.io")
	p.skip()
	assert.Empty(t, p.unready())
}

// stubInformer is one that has read up to a revision.
type stubInformer struct {
	cache.SharedIndexInformer

	version string
}

func (i *stubInformer) LastSyncResourceVersion() string { return i.version }

func (i *stubInformer) HasSynced() bool { return i.version != "" }

func TestSource_IsForbiddenUntilItReadsAgain(t *testing.T) {
	t.Parallel()
	informer := &stubInformer{version: "10"}
	s := &source{informer: informer}
	refusal := apierrors.NewForbidden(corev1.Resource("namespaces"), "", errors.New("no right"))
	news := func(err error) bool {
		_, changed := s.observe(err)
		return changed
	}
	assert.True(t, news(refusal))
	assert.True(t, s.isForbidden())
	assert.False(t, news(refusal))
	informer.version = "11"
	assert.False(t, s.isForbidden(), "it has read since")
	assert.True(t, news(refusal), "the right was taken away again")
	assert.True(t, s.isForbidden())
	assert.True(t, news(errors.New("connection refused")))
	assert.False(t, s.isForbidden())
}
