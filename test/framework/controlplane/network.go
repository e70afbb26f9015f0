// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

const (
	// socket is where the kube-apiserver finds the network, below the control
	// plane's directory.
	socket = "network.sock"
	// serviceRange is where Services get their addresses from.
	serviceRange = "10.96.0.0/16"
	// dialDeadline is how long a connection may take.
	dialDeadline = 5 * time.Second
)

// network plays kube-proxy and the Pod network. The kube-apiserver hands it,
// as its egress proxy, every connection to a Service: those of APIServices and
// of webhooks. A Service's address leads to a random ready endpoint of its
// EndpointSlices, and a Pod's address to where RunPod says; any other address
// (the name in a Service of type ExternalName) is dialled as it is. As with
// kube-proxy, a connection that is established stays where it is.
type network struct {
	client kubernetes.Interface
	server *http.Server
	// ctx ends with the network, and with it all its connections.
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	routes map[string]string // from a Pod's address to the real one
	lastIP int
}

func startNetwork(path string, client kubernetes.Interface) (*network, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	n := &network{client: client, routes: map[string]string{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.server = &http.Server{Handler: n, ReadHeaderTimeout: dialDeadline}
	go func() { _ = n.server.Serve(listener) }()
	return n, nil
}

func (n *network) stop() {
	n.cancel()
	_ = n.server.Close()
}

// ServeHTTP answers CONNECT, and carries bytes from then on.
func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, dialDeadline)
	defer cancel()
	address, err := n.resolve(ctx, r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	var dialer net.Dialer
	there, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// A deadline that the server set for the request would end the connection.
	_ = here.SetDeadline(time.Time{})
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		here.Close()
		there.Close()
		return
	}
	n.join(here, there)
}

// join carries bytes until one end is closed, or the network is.
func (n *network) join(a, b net.Conn) {
	ctx, cancel := context.WithCancel(n.ctx)
	go func() {
		<-ctx.Done()
		a.Close()
		b.Close()
	}()
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		cancel()
	}
	go carry(a, b)
	go carry(b, a)
}

// resolve finds the real address behind one of the cluster.
func (n *network) resolve(ctx context.Context, address string) (string, error) {
	if real, found := n.route(address); found {
		return real, nil
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return "", err
	}
	services, err := n.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.clusterIP", host).String(),
	})
	if err != nil {
		return "", err
	}
	if len(services.Items) == 0 {
		return address, nil
	}
	service := &services.Items[0] // no address is given twice
	for _, p := range service.Spec.Ports {
		if int(p.Port) == port {
			return n.endpoint(ctx, service, p.Name)
		}
	}
	return "", fmt.Errorf("service %s/%s: no port %d", service.Namespace, service.Name, port)
}

// endpoint picks one of the Service's ready endpoints.
func (n *network) endpoint(ctx context.Context, service *corev1.Service, port string) (string, error) {
	slices, err := n.client.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{discoveryv1.LabelServiceName: service.Name}.String(),
	})
	if err != nil {
		return "", err
	}
	var ready, leaving []string
	for _, slice := range slices.Items {
		for _, p := range slice.Ports {
			if ptr.Deref(p.Name, "") != port || p.Port == nil {
				continue
			}
			for _, e := range slice.Endpoints {
				address := net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port)))
				switch {
				case ptr.Deref(e.Conditions.Ready, true):
					ready = append(ready, address)
				case ptr.Deref(e.Conditions.Serving, false) && ptr.Deref(e.Conditions.Terminating, false):
					leaving = append(leaving, address)
				}
			}
		}
	}
	// As kube-proxy: Pods that are going are better than none.
	if len(ready) == 0 {
		ready = leaving
	}
	if len(ready) == 0 {
		return "", fmt.Errorf("service %s/%s: no ready endpoint", service.Namespace, service.Name)
	}
	pod := ready[rand.IntN(len(ready))]
	real, found := n.route(pod)
	if !found {
		return "", fmt.Errorf("service %s/%s: endpoint %s is none of RunPod's", service.Namespace, service.Name, pod)
	}
	return real, nil
}

func (n *network) route(address string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	real, found := n.routes[address]
	return real, found
}

// attach gives a Pod an address, behind whose ports are the real addresses.
func (n *network) attach(addresses map[int32]string) (ip string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastIP++
	ip = net.IPv4(10, 244, byte(n.lastIP>>8), byte(n.lastIP)).String()
	for port, address := range addresses {
		n.routes[net.JoinHostPort(ip, strconv.Itoa(int(port)))] = address
	}
	return ip
}

// Route has connections to an address of the cluster, such as a kubelet's, end
// at another one. The function that it returns takes that back.
func (c *ControlPlane) Route(address, real string) (remove func()) {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.network.routes[address] = real
	return func() {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		delete(c.network.routes, address)
	}
}

// detach forgets a Pod's address.
func (n *network) detach(ip string, addresses map[int32]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for port := range addresses {
		delete(n.routes, net.JoinHostPort(ip, strconv.Itoa(int(port))))
	}
}
