// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// workloadRequestTimeout is how long a request to a workload cluster may take.
	workloadRequestTimeout = 5 * time.Second
	// maxWorkloadAnswer is the most that is read of one answer.
	maxWorkloadAnswer = 4 << 20
	// maxWorkloadHeader is the most that is read of its header.
	maxWorkloadHeader = 64 << 10
	// maxKubeconfig is the longest kubeconfig.
	maxKubeconfig = 64 << 10
	// kubeconfigKey is the key of a kubeconfig in a Secret of Cluster API.
	kubeconfigKey = "value"
)

// workloadAPI is the API of a workload cluster.
type workloadAPI struct {
	client.Client
	// server is the URL of its API server, and authority the certificates, PEM, that verify it
	// for serverName; if that is empty, for the host of the URL.
	server, serverName string
	authority          []byte
}

// A kubeconfigError says what is wrong with the kubeconfig of a workload cluster. It quotes
// nothing of it.
type kubeconfigError struct{ message string }

func (e *kubeconfigError) Error() string { return e.message }

// workloadConnections keep one connection for each workload cluster.
//
// Who may write Secrets in a tenant's namespace can write its kubeconfig. So of that nothing is
// used but a URL, certificates, and a credential that it contains itself: a kubeconfig can name
// commands, which would run here, and files, such as the token of this process, which
// would be sent to its URL. Cluster API's own connections use all of it.
type workloadConnections struct {
	mu sync.Mutex
	by map[ctrl.Request]*workloadConnection
	// open makes a connection, without a request.
	open func(kubeconfig []byte) (*workloadConnection, error)
}

type workloadConnection struct {
	kubeconfig [sha256.Size]byte
	api        *workloadAPI
	// err is why there is no connection.
	err error
	// close closes connections that are not in use.
	close func()
}

func newWorkloadConnections() *workloadConnections {
	return &workloadConnections{by: map[ctrl.Request]*workloadConnection{}, open: newWorkloadConnection}
}

// get returns the API to which there is a connection; nil if there is none.
func (c *workloadConnections) get(request ctrl.Request) *workloadAPI {
	c.mu.Lock()
	defer c.mu.Unlock()
	if is := c.by[request]; is != nil {
		return is.api
	}
	return nil
}

// connect returns the API that a kubeconfig is for. It makes no request, and parses a
// kubeconfig once, without holding up others.
func (c *workloadConnections) connect(request ctrl.Request, kubeconfig []byte) (*workloadAPI, error) {
	if len(kubeconfig) > maxKubeconfig {
		return nil, &kubeconfigError{fmt.Sprintf("it must have %d bytes at most", maxKubeconfig)}
	}
	sum := sha256.Sum256(kubeconfig)
	c.mu.Lock()
	was := c.by[request]
	c.mu.Unlock()
	if was != nil && was.kubeconfig == sum {
		return was.api, was.err
	}
	made, err := c.open(kubeconfig)
	if err != nil {
		made = &workloadConnection{err: err, close: func() {}}
	}
	made.kubeconfig = sum
	c.mu.Lock()
	defer c.mu.Unlock()
	if was = c.by[request]; was != nil {
		was.close()
	}
	c.by[request] = made
	return made.api, made.err
}

func (c *workloadConnections) forget(request ctrl.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.by[request]; was != nil {
		was.close()
		delete(c.by, request)
	}
}

func newWorkloadConnection(kubeconfig []byte) (*workloadConnection, error) {
	config, err := workloadConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, &kubeconfigError{"its certificates cannot be used"}
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: workloadRequestTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: workloadRequestTimeout,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     2 * time.Minute,
		ForceAttemptHTTP2:   true,

		MaxResponseHeaderBytes: maxWorkloadHeader,
	}
	wrapped, err := rest.HTTPWrappersForConfig(config, &boundedTransport{transport})
	if err != nil {
		return nil, &kubeconfigError{"its credential cannot be used"}
	}
	scheme, mapper, err := workloadKinds()
	if err != nil {
		return nil, err
	}
	api, err := client.New(config, client.Options{
		Scheme: scheme, Mapper: mapper,
		HTTPClient: &http.Client{
			Transport: wrapped, Timeout: workloadRequestTimeout,
			// A redirect would lead elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, err
	}
	return &workloadConnection{api: &workloadAPI{api, config.Host, config.ServerName, config.CAData}, close: transport.CloseIdleConnections}, nil
}

// workloadConfig returns how a kubeconfig reaches a workload cluster.
func workloadConfig(kubeconfig []byte) (*rest.Config, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, &kubeconfigError{"it cannot be parsed"}
	}
	current := config.Contexts[config.CurrentContext]
	if current == nil || config.Clusters[current.Cluster] == nil || config.AuthInfos[current.AuthInfo] == nil {
		return nil, &kubeconfigError{"its current context must name a cluster and a user"}
	}
	cluster, user := config.Clusters[current.Cluster], config.AuthInfos[current.AuthInfo]
	server, err := url.Parse(cluster.Server)
	switch {
	case err != nil || server.Scheme != "https" || server.Host == "" || server.User != nil || server.RawQuery != "" || server.Fragment != "":
		return nil, &kubeconfigError{"the server of its cluster must be a URL with https, such as https://203.0.113.1:6443"}
	case cluster.InsecureSkipTLSVerify || cluster.CertificateAuthority != "" || cluster.ProxyURL != "":
		return nil, &kubeconfigError{"its cluster must have its authority as certificate-authority-data, and no file, proxy or insecure-skip-tls-verify"}
	case !isSelfContained(user):
		return nil, &kubeconfigError{"its user must have a token, or client-certificate-data and client-key-data, and no file, command, password or other user"}
	}
	return &rest.Config{
		Host: cluster.Server, BearerToken: user.Token, UserAgent: rest.DefaultKubernetesUserAgent(), Timeout: workloadRequestTimeout,
		QPS: 20, Burst: 40,
		// The text of a warning is the tenant's, and would be logged.
		WarningHandlerWithContext: rest.NoWarnings{},
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: cluster.TLSServerName, CAData: cluster.CertificateAuthorityData,
			CertData: user.ClientCertificateData, KeyData: user.ClientKeyData,
		},
	}, nil
}

// isSelfContained returns whether a user of a kubeconfig has a credential in the kubeconfig itself.
func isSelfContained(user *clientcmdapi.AuthInfo) bool {
	return user.ClientCertificate == "" && user.ClientKey == "" && user.TokenFile == "" && user.Exec == nil && user.AuthProvider == nil &&
		user.Username == "" && user.Password == "" && user.Impersonate == "" && user.ImpersonateUID == "" &&
		len(user.ImpersonateGroups) == 0 && len(user.ImpersonateUserExtra) == 0 &&
		(user.Token != "" || (len(user.ClientCertificateData) > 0 && len(user.ClientKeyData) > 0))
}

// The kinds of objects in workload clusters.
var (
	definitionKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
	monitorKind    = schema.GroupVersionKind{Group: firewallv2.GroupName, Version: "v2", Kind: "FirewallMonitor"}
	policyKind     = schema.GroupVersionKind{Group: "metal-stack.io", Version: "v1", Kind: "ClusterwideNetworkPolicy"}
)

// workloadKinds knows the kinds that are used in workload clusters, so that none is asked
// what it serves.
func workloadKinds() (*runtime.Scheme, meta.RESTMapper, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme, authenticationv1.AddToScheme, storagev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, err
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind, scope := range map[schema.GroupVersionKind]meta.RESTScope{
		corev1.SchemeGroupVersion.WithKind("Namespace"):           meta.RESTScopeRoot,
		corev1.SchemeGroupVersion.WithKind("Node"):                meta.RESTScopeRoot,
		corev1.SchemeGroupVersion.WithKind("Pod"):                 meta.RESTScopeNamespace,
		corev1.SchemeGroupVersion.WithKind(claimKind):             meta.RESTScopeNamespace,
		storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"): meta.RESTScopeRoot,
		corev1.SchemeGroupVersion.WithKind("ServiceAccount"):      meta.RESTScopeNamespace,
		rbacv1.SchemeGroupVersion.WithKind("ClusterRole"):         meta.RESTScopeRoot,
		rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"):  meta.RESTScopeRoot,
		definitionKind: meta.RESTScopeRoot,
		monitorKind:    meta.RESTScopeNamespace,
		policyKind:     meta.RESTScopeNamespace,
	} {
		mapper.Add(kind, scope)
	}
	return scheme, mapper, nil
}

// boundedTransport ends answers that are too long: a workload cluster is its tenant's.
type boundedTransport struct{ next http.RoundTripper }

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &boundedBody{ReadCloser: answer.Body, left: maxWorkloadAnswer}
	return answer, nil
}

var errAnswerTooLong = fmt.Errorf("the answer has more than %d bytes", maxWorkloadAnswer)

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errAnswerTooLong
	}
	return n, err
}

// describeWorkloadError says what went wrong with a request to a workload cluster, in words of
// bounded length that quote no answer, no address and no resolver: what is at that URL is the
// tenant's choice, and so would be shown to it. Whether nothing answers there, or no
// connection is made, is the same.
func describeWorkloadError(err error) string {
	var answer apierrors.APIStatus
	var certificate x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &answer) && answer.Status().Code != 0:
		return fmt.Sprintf("the API server answers %d %s", answer.Status().Code, http.StatusText(int(answer.Status().Code)))
	case networkDetail(err) != "", hangs(err):
		return fmt.Sprintf("the API server cannot be connected to, or does not answer within %s", workloadRequestTimeout)
	case errors.As(err, &certificate), errors.As(err, &hostname), errors.As(err, &invalid):
		return "the certificate of the API server cannot be verified"
	case errors.Is(err, errAnswerTooLong):
		return errAnswerTooLong.Error()
	case meta.IsNoMatchError(err):
		return "a kind is not served"
	}
	return "a request to the API server failed"
}

// networkDetail is why there is no connection, for the log; empty if it is something else.
func networkDetail(err error) string {
	var operation *net.OpError
	if !errors.As(err, &operation) {
		return ""
	}
	return oneline.Sanitize(operation.Error(), oneline.MaxWarning)
}

// hangs returns whether an API server did not answer in time.
func hangs(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}

// workloadKubeconfig is a kubeconfig of a workload cluster without a credential. Equal
// arguments give equal bytes.
func workloadKubeconfig(server, serverName string, authority []byte) ([]byte, error) {
	const name = "workload"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, TLSServerName: serverName, CertificateAuthorityData: bytes.Clone(authority)}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}
