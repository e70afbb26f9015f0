package capi

import (
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
	etcdPort    = "2379"
	// protocol is what kubelets forward ports by.
	protocol = "portforward.k8s.io"
)

// kubelet plays the kubelets of a cluster's control plane as far as they
// forward ports, which is how the kubeadm control-plane manager reaches etcd.
type kubelet struct {
	server *httptest.Server

	mu sync.Mutex
	// pods are the real addresses by Pod.
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

// serve says where etcd's port of a Pod is in truth; empty: nowhere.
func (k *kubelet) serve(pod, address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if address == "" {
		delete(k.pods, pod)
		return
	}
	k.pods[pod] = address
}

// ServeHTTP answers /portForward/<namespace>/<pod>.
func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, found := strings.CutPrefix(r.URL.Path, "/portForward/kube-system/")
	k.mu.Lock()
	address := k.pods[path]
	k.mu.Unlock()
	if !found || address == "" {
		http.Error(w, "pod not found", http.StatusNotFound)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{protocol}); err != nil {
		return
	}
	connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		// The stream for errors stays empty.
		if stream.Headers().Get(corev1.StreamType) != corev1.StreamTypeData || stream.Headers().Get(corev1.PortHeader) != etcdPort {
			return nil
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
