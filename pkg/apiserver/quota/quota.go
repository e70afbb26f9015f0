// SPDX-License-Identifier: Apache-2.0

// Package quota enforces ResourceQuotas. The kube-apiserver does that for the kinds that
// it serves itself, but not for what it proxies to another server.
//
// It must never get more than the creation of objects: the body of an allocation has
// user data.
package quota

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// callTimeout is how long a request to the cluster may take. The plugin gives
	// up after 10 s.
	callTimeout = 5 * time.Second
	// workers is how many namespaces are evaluated concurrently.
	workers = 5
)

// Admission refuses the creation of objects that would exceed a quota.
type Admission struct {
	plugin admission.ValidationInterface
}

var _ admission.ValidationInterface = &Admission{}

// New returns Kubernetes' own plugin, which gets quotas from the informers, counts with
// the rights of cluster, and ends with stop.
func New(cluster *rest.Config, informers informers.SharedInformerFactory, stop <-chan struct{}) (*Admission, error) {
	cluster = rest.CopyConfig(cluster)
	cluster.Timeout = callTimeout
	client, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		return nil, fmt.Errorf("failed to set up quotas: %w", err)
	}
	plugin, err := resourcequota.NewResourceQuota(nil, workers)
	if err != nil {
		return nil, fmt.Errorf("failed to set up quotas: %w", err)
	}
	plugin.SetDrainedNotification(stop)
	plugin.SetExternalKubeClientSet(client)
	plugin.SetExternalKubeInformerFactory(informers)
	// Objects are counted, as count/<resource>.<group>; there is nothing in them
	// to be measured.
	plugin.SetQuotaConfiguration(generic.NewConfiguration(nil, nil))
	if err := plugin.ValidateInitialization(); err != nil {
		return nil, fmt.Errorf("failed to set up quotas: %w", err)
	}
	return &Admission{plugin}, nil
}

// Handles implements admission.Interface.
func (a *Admission) Handles(operation admission.Operation) bool {
	return operation == admission.Create
}

// Validate implements admission.ValidationInterface.
func (a *Admission) Validate(ctx context.Context, attributes admission.Attributes, interfaces admission.ObjectInterfaces) error {
	if attributes.GetSubresource() != "" {
		return nil
	}
	err := a.plugin.Validate(ctx, attributes, interfaces)
	if status := apierrors.APIStatus(nil); err != nil && !errors.As(err, &status) {
		// The cluster did not answer.
		return apierrors.NewServiceUnavailable(fmt.Sprintf("failed to evaluate quotas of namespace %q: %v", attributes.GetNamespace(), err))
	}
	return err
}
