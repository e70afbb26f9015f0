// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// workload is one cluster that runs on the machines of a Site. One
// kube-apiserver stands for those of all its control-plane machines.
type workload struct {
	*controlplane.ControlPlane
	endpoint string
	version  string
	client   kubernetes.Interface
	etcd     *etcd
	kubelet  *kubelet
	metalCCM *metalCCMPod
	link     link
	controls atomic.Int32

	cancel context.CancelFunc // of metalCCM
}

// Workload is a workload cluster, as its owner sees it.
type Workload struct{ c *workload }

// Client is an administrator's.
func (w *Workload) Client() kubernetes.Interface { return w.c.client }

// Dynamic is an administrator's, for kinds that the cluster has definitions of.
func (w *Workload) Dynamic(t testing.TB) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(w.c.Admin())
	require.NoError(t, err)
	return client
}

// found makes a cluster, as `kubeadm init` does with the user data of the first
// machine.
func (s *Site) found(ctx context.Context, user *userData) (*workload, error) {
	config := user.config["ClusterConfiguration"]
	endpoint, _ := config["controlPlaneEndpoint"].(string)
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, fmt.Errorf("controlPlaneEndpoint: %w", err)
	}
	version, _ := config["kubernetesVersion"].(string)
	file := func(name string) []byte { return user.files["/etc/kubernetes/pki/"+name] }
	running, err := controlplane.Run(ctx, controlplane.AsWorkload(controlplane.Workload{
		CA: file("ca.crt"), CAKey: file("ca.key"), ServiceAccountKey: file("sa.key"), Hosts: []string{host},
	}))
	if err != nil {
		return nil, err
	}
	c := &workload{
		ControlPlane: running, endpoint: endpoint, version: version, client: running.Client(),
		etcd:    &etcd{authority: pki.Pair{Certificate: file("etcd/ca.crt"), Key: file("etcd/ca.key")}},
		kubelet: startKubelet(),
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		c.stop()
		return nil, err
	}
	// By it kubeadm, and Cluster API, recognize that a cluster is initialized.
	if _, err := c.client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kubeadm-config"},
		Data:       map[string]string{"ClusterConfiguration": string(text)},
	}, metav1.CreateOptions{}); err != nil {
		c.stop()
		return nil, err
	}
	if err := s.add(c); err != nil {
		return nil, err
	}
	return c, nil
}

// add leads to a cluster that runs, and runs its metal-ccm. It is stopped if there is
// another one at its endpoint.
func (s *Site) add(c *workload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.clusters[c.endpoint] != nil {
		c.stop()
		return fmt.Errorf("there is a cluster at %s", c.endpoint)
	}
	life, cancel := context.WithCancel(s.ctx)
	c.cancel, c.metalCCM = cancel, s.runMetalCCM(life, c)
	s.clusters[c.endpoint] = c
	return nil
}

// abandon is the end of a cluster's last control-plane machine.
func (s *Site) abandon(c *workload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clusters[c.endpoint] == c {
		delete(s.clusters, c.endpoint)
		c.stop()
	}
}

// machines counts those of the control plane.
func (c *workload) machines(change int32) int32 { return c.controls.Add(change) }

// address is where the kube-apiserver is in truth.
func (c *workload) address() string {
	u, err := url.Parse(c.Admin().Host)
	if err != nil {
		return ""
	}
	return u.Host
}

func (c *workload) stop() {
	if c.metalCCM != nil {
		c.cancel()
		<-c.metalCCM.ended
	}
	c.kubelet.stop()
	c.Stop()
}
