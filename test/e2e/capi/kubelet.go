// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	kubeletPort = 10250
	// The ports at which the Pods of control planes are asked for.
	etcdPort      = "2379"
	apiServerPort = "6443"
	// protocol is what kubelets forward ports by.
	protocol = "portforward.k8s.io"
)

// kubelet plays the kubelets of a cluster's control plane as far as they
// forward ports, which is how the kubeadm control-plane manager reaches etcd,
// and sees when a kube-apiserver's certificate ends.
type kubelet struct {
	server *httptest.Server

	mu sync.Mutex
	// pods are the real addresses by Pod and port.
	pods map[string]string
}

func startKubelet() *kubelet {
	k := &kubelet{pods: map[string]string{}}
	k.server = httptest.NewTLSServer(k)
	return k
}

func (k *kubelet) address() string { return k.server.Listener.Addr().String() }

func (k *kubelet) stop() {
	k.server.CloseClientConnections()
	k.server.Close()
}

// serve says where the port of a Pod is in truth; empty: nowhere.
func (k *kubelet) serve(pod, port, address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if address == "" {
		delete(k.pods, net.JoinHostPort(pod, port))
		return
	}
	k.pods[net.JoinHostPort(pod, port)] = address
}

// ServeHTTP answers /portForward/<namespace>/<pod>.
func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pod, found := strings.CutPrefix(r.URL.Path, "/portForward/kube-system/")
	if !found {
		http.Error(w, "pod not found", http.StatusNotFound)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{protocol}); err != nil {
		return
	}
	connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		// The stream for errors stays empty.
		if stream.Headers().Get(corev1.StreamType) != corev1.StreamTypeData {
			return nil
		}
		k.mu.Lock()
		address := k.pods[net.JoinHostPort(pod, stream.Headers().Get(corev1.PortHeader))]
		k.mu.Unlock()
		if address == "" {
			return fmt.Errorf("nothing listens at port %s of Pod %s", stream.Headers().Get(corev1.PortHeader), pod)
		}
		there, err := net.DialTimeout("tcp", address, dialLimit)
		if err != nil {
			return err
		}
		join(stream, there)
		return nil
	})
	if connection == nil {
		return
	}
	defer connection.Close()
	<-connection.CloseChan()
}
