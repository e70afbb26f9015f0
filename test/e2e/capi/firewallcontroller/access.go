// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// seed is the management cluster.
type seed struct {
	namespace string
	objects   dynamic.Interface
	secrets   kubernetes.Interface
}

// openSeed reads the kubeconfig of the user data. Its current context is the namespace.
func openSeed(kubeconfig []byte) (*seed, error) {
	var named struct {
		CurrentContext string `json:"current-context"`
	}
	if err := yaml.Unmarshal(kubeconfig, &named); err != nil || named.CurrentContext == "" {
		return nil, errors.New("unable to find seed namespace from kubeconfig")
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, errors.New("the seed kubeconfig is invalid")
	}
	config.QPS = -1
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	secrets, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &seed{named.CurrentContext, objects, secrets}, nil
}

// firewall returns the one with the hostname as its name.
func (s *seed) firewall(ctx context.Context, hostname string) (*Firewall, error) {
	list, err := s.objects.Resource(Firewalls).Namespace(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("unable to list firewalls: %w", err)
	}
	var found []*Firewall
	for i := range list.Items {
		f, err := decode[Firewall](&list.Items[i])
		if err != nil {
			return nil, err
		}
		if f.Name == hostname {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("found no single firewall resource for firewall: %s", hostname)
	}
	return found[0], nil
}

// secret reads one key of a Secret, without a cache: it may not list Secrets.
func (s *seed) secret(ctx context.Context, namespace, name, key string) ([]byte, error) {
	secret, err := s.secrets.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return secret.Data[key], nil
}

// shoot is the workload cluster.
type shoot struct {
	access  atomic.Pointer[ShootAccess]
	token   atomic.Pointer[string]
	objects dynamic.Interface
	core    kubernetes.Interface
}

// openShoot makes a client of the two Secrets that the Firewall names.
func (c *Controller) openShoot(ctx context.Context, access *ShootAccess) (*shoot, error) {
	if access == nil {
		return nil, errors.New("the firewall has no shoot access")
	}
	s := &shoot{}
	s.access.Store(access)
	if err := c.readToken(ctx, s); err != nil {
		return nil, fmt.Errorf("unable to read token secret: %w", err)
	}
	text, err := c.seed.secret(ctx, access.Namespace, access.KubeconfigSecret, "kubeconfig")
	if err != nil {
		return nil, fmt.Errorf("unable to read generic kubeconfig secret: %w", err)
	}
	kubeconfig, err := clientcmd.Load(text)
	if err != nil {
		return nil, errors.New("unable to decode kubeconfig from generic kubeconfig template")
	}
	if len(kubeconfig.AuthInfos) != 1 || len(kubeconfig.Clusters) != 1 || len(kubeconfig.Contexts) != 1 {
		return nil, errors.New("parsed generic kubeconfig template expects exactly one user, cluster and context")
	}
	for _, cluster := range kubeconfig.Clusters {
		cluster.Server = access.APIServerURL
	}
	config, err := clientcmd.NewDefaultClientConfig(*kubeconfig, nil).ClientConfig()
	if err != nil {
		return nil, errors.New("unable to create rest config of the generic kubeconfig template")
	}
	if config.BearerToken != "" || config.Username != "" || len(config.CertData) > 0 {
		return nil, errors.New("the generic kubeconfig template has a credential")
	}
	config.QPS = -1
	config.Proxy = c.Proxy
	config.WarningHandler = rest.NoWarnings{} // Endpoints are deprecated.
	// The token is read anew for each request, as client-go does with a file.
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &bearer{next, &s.token} })
	if s.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	s.core, err = kubernetes.NewForConfig(rest.CopyConfig(config))
	return s, err
}

func (c *Controller) readToken(ctx context.Context, s *shoot) error {
	access := s.access.Load()
	text, err := c.seed.secret(ctx, access.Namespace, access.TokenSecret, corev1.ServiceAccountTokenKey)
	if err != nil {
		return err
	}
	token := string(text)
	s.token.Store(&token)
	return nil
}

type bearer struct {
	next  http.RoundTripper
	token *atomic.Pointer[string]
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+*b.token.Load())
	return b.next.RoundTrip(r)
}
