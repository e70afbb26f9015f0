// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// accessInputs are what the access of a cluster to its metal-api depends on, but for its
// token and the authority of the management cluster. They are comparable.
type accessInputs struct {
	uid   types.UID
	names accessNames
	// What metal-ccm is configured with.
	url, project, partition, clusterID, externalNetwork, networks string
}

// accessNames are the names of the objects. Role and RoleBinding are named like the
// ServiceAccount.
type accessNames struct {
	account, token, config string
}

func accessNamesOf(cluster *v1alpha4.MetalStackCluster) accessNames {
	return accessNames{
		account: cluster.Name + "-metalapi",
		token:   cluster.Name + "-metalapi-token",
		config:  accessConfigName(clusterNameOf(cluster)),
	}
}

// accessConfigName is the name of the Secret for a ClusterResourceSet. A template knows the name
// of the Cluster; a topology generates that of the MetalStackCluster.
func accessConfigName(clusterName string) string { return clusterName + "-metal-ccm" }

func accessInputsOf(cluster *v1alpha4.MetalStackCluster, managementURL string) accessInputs {
	spec := &cluster.Spec
	private := spec.PrivateNetworkID
	if a := cluster.Status.Allocation; a != nil {
		private = cmp.Or(private, a.NetworkID)
	}
	var networks []string
	for _, network := range append([]string{private, spec.PublicNetworkID}, spec.MetalAPIAccess.AdditionalNetworkIDs...) {
		if network != "" && !slices.Contains(networks, network) {
			networks = append(networks, network)
		}
	}
	return accessInputs{
		uid: cluster.UID, names: accessNamesOf(cluster),
		url:     managementURL + "/apis/" + v1alpha4.SchemeGroupVersion.String() + "/namespaces/" + cluster.Namespace + "/" + clusters.resource + "/" + cluster.Name + "/metalapi",
		project: spec.ProjectID, partition: spec.Partition, clusterID: cluster.Status.ClusterID,
		externalNetwork: spec.PublicNetworkID, networks: strings.Join(networks, ","),
	}
}

// accessLabels are the labels of the objects.
func accessLabels(cluster *v1alpha4.MetalStackCluster) map[string]string {
	return map[string]string{infrastructure.ClusterNameLabel: clusterNameOf(cluster)}
}

// An accessCheck is what was found when the objects were read last.
type accessCheck struct {
	inputs    accessInputs
	condition metav1.Condition
	// interval is until due, when they are read again.
	interval time.Duration
	due      time.Time
	// failures are how many checks in a row found something missing.
	failures int
}

// accessChecks keep the last check of each cluster, in memory only: after a restart the
// objects are read again.
type accessChecks struct {
	mu   sync.Mutex
	last map[ctrl.Request]accessCheck
}

func newAccessChecks() *accessChecks { return &accessChecks{last: map[ctrl.Request]accessCheck{}} }

func (c *accessChecks) get(request ctrl.Request) accessCheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[request]
}

func (c *accessChecks) set(request ctrl.Request, check accessCheck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[request] = check
}

func (c *accessChecks) reset(request ctrl.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, request)
}
