// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/metalccm"
)

const (
	// bootLimit is how long a machine tries what its user data says.
	bootLimit = 2 * time.Minute
	// callLimit is how long one request of ours may take.
	callLimit = 30 * time.Second

	controlPlaneLabel = "node-role.kubernetes.io/control-plane"
)

// machine plays the operating system of one allocation: kubeadm and the kubelet.
type machine struct {
	site  *Site
	state simulator.MachineState

	mu      sync.Mutex
	cluster *workload
	member  *member
	ready   *bool
	gone    bool
}

// boot does what the user data says, as kubeadm would: it makes the cluster or
// joins it.
func (m *machine) boot() {
	ctx, cancel := context.WithTimeout(m.site.ctx, bootLimit)
	defer cancel()
	if err := m.bootstrap(ctx); err != nil && ctx.Err() == nil {
		m.site.t.Errorf("machine %s does not boot: %v", m.state.Hostname, err)
	}
}

func (m *machine) bootstrap(ctx context.Context) error {
	user, err := parseUserData(m.state.UserData)
	if err != nil {
		return err
	}
	var c *workload
	controlPlane := true
	if init := user.config["InitConfiguration"]; init != nil {
		c, err = m.site.found(ctx, user)
	} else {
		c, controlPlane, err = m.joinable(ctx, user)
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		if c.machines(0) == 0 {
			m.site.abandon(c)
		}
		return nil
	}
	m.cluster = c
	if controlPlane {
		if err := m.runControlPlane(ctx); err != nil {
			return err
		}
	}
	return m.register(ctx, controlPlane, user.hasExternalCloudProvider())
}

// joinable returns the cluster that the machine may join: it shows a token
// that the cluster knows.
func (m *machine) joinable(ctx context.Context, user *userData) (c *workload, controlPlane bool, err error) {
	join := user.config["JoinConfiguration"]
	endpoint, _, _ := unstructured.NestedString(join, "discovery", "bootstrapToken", "apiServerEndpoint")
	token, _, _ := unstructured.NestedString(join, "discovery", "bootstrapToken", "token")
	m.site.mu.Lock()
	c = m.site.clusters[endpoint]
	m.site.mu.Unlock()
	if c == nil {
		return nil, false, fmt.Errorf("no cluster at %q", endpoint)
	}
	id, secret, _ := strings.Cut(token, ".")
	known, err := c.client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, "bootstrap-token-"+id, metav1.GetOptions{})
	if err != nil {
		return nil, false, fmt.Errorf("its token: %w", err)
	}
	if string(known.Data["token-secret"]) != secret {
		return nil, false, fmt.Errorf("the cluster has another token of that name")
	}
	_, controlPlane, _ = unstructured.NestedMap(join, "controlPlane")
	return c, controlPlane, nil
}

// runControlPlane plays the static Pods of the control plane.
func (m *machine) runControlPlane(ctx context.Context) (err error) {
	c, node := m.cluster, m.state.Hostname
	if m.member, err = c.etcd.join(node); err != nil {
		return err
	}
	c.kubelet.serve("etcd-"+node, etcdPort, m.member.address)
	c.kubelet.serve("kube-apiserver-"+node, apiServerPort, c.address())
	c.machines(+1)
	for _, component := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		pods := c.client.CoreV1().Pods(metav1.NamespaceSystem)
		pod, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: component + "-" + node, Labels: map[string]string{"component": component, "tier": "control-plane"},
				// As kubelets mark what is theirs, and drains leave alone.
				Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "static"},
			},
			Spec: corev1.PodSpec{NodeName: node, HostNetwork: true, Containers: []corev1.Container{{Name: component, Image: component}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		if _, err := pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// register makes the Node. If the kubelet is told that there is an external cloud provider,
// that gives the Node its provider ID and addresses.
func (m *machine) register(ctx context.Context, controlPlane, external bool) error {
	name := m.state.Hostname
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	if external {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: metalccm.TaintUninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule})
	}
	if controlPlane {
		node.Labels[controlPlaneLabel], node.Labels[corev1.LabelNodeExcludeBalancers] = "", ""
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: controlPlaneLabel, Effect: corev1.TaintEffectNoSchedule})
	}
	for _, address := range append([]string{name}, m.state.IPs...) {
		m.cluster.Route(net.JoinHostPort(address, fmt.Sprint(kubeletPort)), m.cluster.kubelet.address())
	}
	nodes := m.cluster.client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := nodes.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Status.Conditions = nodeConditions(true)
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
		node.Status.NodeInfo = corev1.NodeSystemInfo{KubeletVersion: m.cluster.version, OperatingSystem: "linux", Architecture: "amd64"}
		if !external && len(m.state.IPs) > 0 {
			node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.state.IPs[0]}, {Type: corev1.NodeHostName, Address: name}}
		}
		_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	ready := true
	m.ready = &ready
	return nil
}

// report is the kubelet's heartbeat: when that is missing, the Node is not
// ready, and is emptied if it is out of service.
func (m *machine) report(up bool) {
	if !m.mu.TryLock() { // it boots; there is a next time
		return
	}
	defer m.mu.Unlock()
	if m.ready == nil || *m.ready && up || m.gone && up {
		return
	}
	ctx, cancel := context.WithTimeout(m.site.ctx, callLimit)
	defer cancel()
	nodes := m.cluster.client.CoreV1().Nodes()
	if !*m.ready && !up {
		if node, err := nodes.Get(ctx, m.state.Hostname, metav1.GetOptions{}); err == nil {
			_ = m.cluster.empty(ctx, node) // or the next time
		}
		return
	}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := nodes.Get(ctx, m.state.Hostname, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Status.Conditions = nodeConditions(up)
		_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err == nil || apierrors.IsNotFound(err) {
		m.ready = &up
	}
}

// off is the end of the allocation: nothing runs on the machine any more, and
// its Node is never heard of again.
func (m *machine) off() {
	m.mu.Lock()
	m.gone = true
	m.mu.Unlock()
	m.report(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.member == nil {
		return
	}
	c, node := m.cluster, m.state.Hostname
	c.kubelet.serve("etcd-"+node, etcdPort, "")
	c.kubelet.serve("kube-apiserver-"+node, apiServerPort, "")
	c.etcd.off(m.member)
	ctx, cancel := context.WithTimeout(m.site.ctx, callLimit)
	defer cancel()
	now := int64(0)
	for _, component := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		_ = c.client.CoreV1().Pods(metav1.NamespaceSystem).Delete(ctx, component+"-"+node, metav1.DeleteOptions{GracePeriodSeconds: &now})
	}
	if c.machines(-1) == 0 {
		m.site.abandon(c)
	}
}

// nodeConditions are what a kubelet reports; nobody knows what one that is not
// heard of would.
func nodeConditions(up bool) []corev1.NodeCondition {
	var conditions []corev1.NodeCondition
	for kind, healthy := range map[corev1.NodeConditionType]corev1.ConditionStatus{
		corev1.NodeReady: corev1.ConditionTrue, corev1.NodeMemoryPressure: corev1.ConditionFalse,
		corev1.NodeDiskPressure: corev1.ConditionFalse, corev1.NodePIDPressure: corev1.ConditionFalse,
	} {
		condition := corev1.NodeCondition{
			Type: kind, Status: healthy, Reason: "KubeletReports",
			LastTransitionTime: metav1.Now(), LastHeartbeatTime: metav1.Now(),
		}
		if !up {
			condition.Status, condition.Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
		}
		conditions = append(conditions, condition)
	}
	return conditions
}
