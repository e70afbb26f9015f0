// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Who may write Secrets in a tenant's namespace can write this one.
func TestWorkloadConfig_UsesNothingButTheKubeconfigItself(t *testing.T) {
	t.Parallel()
	replace := func(old, by string) string {
		require.Contains(t, workloadKubeconfigText, old)
		return strings.Replace(workloadKubeconfigText, old, by, 1)
	}
	const user, authority, server = "{token: the-admins-token}", "certificate-authority-data: dGhlIGF1dGhvcml0eQ==", `"https://10.0.0.1:6443"`
	for name, text := range map[string]string{
		"no kubeconfig":       "the-admins-token",
		"no context":          replace("current-context: admin", "current-context: other"),
		"no user":             replace("context: {cluster: rose, user: admin}", "context: {cluster: rose, user: other}"),
		"command":             replace(user, `{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}}`),
		"command and token":   replace(user, `{token: the-admins-token, exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}}`),
		"provider":            replace(user, `{token: the-admins-token, auth-provider: {name: oidc}}`),
		"file of a token":     replace(user, "{tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}"),
		"file and token":      replace(user, "{token: the-admins-token, tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}"),
		"files of a key":      replace(user, "{client-certificate: /tls.crt, client-key: /tls.key}"),
		"password":            replace(user, "{username: admin, password: the-admins-token}"),
		"another user":        replace(user, "{token: the-admins-token, as: admin}"),
		"no credential":       replace(user, "{}"),
		"certificate, no key": replace(user, "{client-certificate-data: eA==}"),
		"file of authority":   replace(authority, "certificate-authority: /etc/passwd"),
		"proxy":               replace(authority, authority+`, proxy-url: "http://127.0.0.1:8080"`),
		"no verification":     replace(authority, "insecure-skip-tls-verify: true"),
		"no TLS":              replace(server, `"http://169.254.169.254"`),
		"no host":             replace(server, `"https://"`),
		"query":               replace(server, `"https://10.0.0.1/?a=b"`),
		"user in the URL":     replace(server, `"https://admin@10.0.0.1"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := workloadConfig([]byte(text))
			require.Error(t, err)
			require.ErrorAs(t, err, new(*kubeconfigError))
			assert.NotContains(t, err.Error(), "the-admins-token")
		})
	}
	config, err := workloadConfig([]byte(workloadKubeconfigText))
	require.NoError(t, err)
	assert.Equal(t, "the-admins-token", config.BearerToken)
	_, err = workloadConfig([]byte(replace(user, "{client-certificate-data: eA==, client-key-data: eQ==}")))
	require.NoError(t, err)
}

// connectTo connects to a server with a kubeconfig that has its certificate.
func connectTo(t *testing.T, server *httptest.Server) *workloadConnection {
	t.Helper()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	text := strings.Replace(workloadKubeconfigText, "https://10.0.0.1:6443", server.URL, 1)
	text = strings.Replace(text, "dGhlIGF1dGhvcml0eQ==", base64.StdEncoding.EncodeToString(certificate), 1)
	connection, err := newWorkloadConnection([]byte(text))
	require.NoError(t, err)
	t.Cleanup(connection.close)
	return connection
}

func TestWorkloadConnection_FollowsNoRedirectAndReadsNoEndlessAnswer(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		says   string
	}{
		"answer": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer the-admins-token" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"firewall"}}`)
		}, ""},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, "the API server answers 302 Found"},
		"refusal that quotes a secret": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = fmt.Fprint(w, "very-secret")
		}, "the API server answers 502 Bad Gateway"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			part := []byte(strings.Repeat(" ", 1<<16))
			for r.Context().Err() == nil {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}, "the answer has more than"},
		"no object": {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "very-secret") }, "a request to the API server failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(c.answer))
			t.Cleanup(server.Close)
			err := connectTo(t, server).api.Get(t.Context(), client.ObjectKey{Name: "firewall"}, &corev1.Namespace{})
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.Contains(t, describeWorkloadError(err), c.says)
			assert.NotContains(t, describeWorkloadError(err), "very-secret")
		})
	}
	t.Cleanup(func() { assert.Zero(t, elsewhere.Load()) })
}

func TestWorkloadConnection_VerifiesTheAPIServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	connection := connectTo(t, server)
	other, err := newWorkloadConnection([]byte(strings.Replace(strings.Replace(workloadKubeconfigText, "https://10.0.0.1:6443", server.URL, 1),
		"certificate-authority-data: dGhlIGF1dGhvcml0eQ==", "tls-server-name: x", 1)))
	require.NoError(t, err)
	t.Cleanup(other.close)
	err = other.api.Get(t.Context(), client.ObjectKey{Name: "firewall"}, &corev1.Namespace{})
	require.Error(t, err)
	assert.Equal(t, "the certificate of the API server cannot be verified", describeWorkloadError(err))
	server.Close()
	err = connection.api.Get(t.Context(), client.ObjectKey{Name: "firewall"}, &corev1.Namespace{})
	require.Error(t, err)
	assert.Equal(t, "the API server cannot be connected to, or does not answer within 5s", describeWorkloadError(err))
	assert.Contains(t, networkDetail(err), "connection refused")
}

// A tenant would find out what is at addresses of the controller manager's network.
func TestDescribeWorkloadError_NamesNothingOfTheNetwork(t *testing.T) {
	t.Parallel()
	address := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port} }
	for name, err := range map[string]error{
		"refused":     &net.OpError{Op: "dial", Net: "tcp", Addr: address(6443), Err: syscall.ECONNREFUSED},
		"no route":    &net.OpError{Op: "dial", Net: "tcp", Addr: address(6443), Err: syscall.EHOSTUNREACH},
		"reset":       &net.OpError{Op: "read", Net: "tcp", Source: address(51234), Addr: address(6443), Err: syscall.ECONNRESET},
		"no name":     &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "internal", Server: "10.0.0.53:53"}},
		"timeout":     &net.OpError{Op: "dial", Net: "tcp", Addr: address(6443), Err: os.ErrDeadlineExceeded},
		"no answer":   context.DeadlineExceeded,
		"slow answer": os.ErrDeadlineExceeded,
	} {
		assert.Equal(t, "the API server cannot be connected to, or does not answer within 5s", describeWorkloadError(fmt.Errorf("get: %w", err)), name)
	}
	detail := networkDetail(fmt.Errorf("get: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: address(6443), Err: syscall.ECONNREFUSED}))
	assert.Equal(t, "dial tcp 10.0.0.1:6443: connection refused", detail, "the log has it")
}

func TestWorkloadConnection_HeadersAreBoundedAndNotLogged(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	ctx := ctrl.LoggerInto(t.Context(), funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{Verbosity: 4}))
	get := func(header string) error {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Warning", `299 - "`+header+`"`)
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"firewall"}}`)
		}))
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		return connectTo(t, server).api.Get(ctx, client.ObjectKey{Name: "firewall"}, &corev1.Namespace{})
	}
	require.NoError(t, get("the-admins-token"))
	require.Error(t, get(strings.Repeat("x", 2*maxWorkloadHeader)))
	assert.Empty(t, logged.String())
}

func TestWorkloadConnections_KeepOneForEachKubeconfig(t *testing.T) {
	t.Parallel()
	c := newWorkloadConnections()
	request := requestOf("rose")
	assert.Nil(t, c.get(request))
	named := func(name string) []byte {
		return []byte(strings.Replace(workloadKubeconfigText, "certificate-authority-data: dGhlIGF1dGhvcml0eQ==", "tls-server-name: "+name, 1))
	}
	first, err := c.connect(request, named("one"))
	require.NoError(t, err)
	same, err := c.connect(request, named("one"))
	require.NoError(t, err)
	assert.Same(t, first, same)
	another, err := c.connect(request, named("two"))
	require.NoError(t, err)
	assert.NotSame(t, first, another)
	assert.Same(t, another, c.get(request))
	c.forget(request)
	assert.Nil(t, c.get(request))
}

// Otherwise firewall-controllers could not verify what is verified here.
func TestWorkload_ServerNameOfTheKubeconfigIsKept(t *testing.T) {
	t.Parallel()
	h := newWorkloadHarness(t)
	h.provideFirewallAccess("the-token")
	h.writeKubeconfig(strings.Replace(workloadKubeconfigText, "{server:", "{tls-server-name: kubernetes, server:", 1))
	h.visit(0)
	secret := &corev1.Secret{}
	require.True(t, h.find(accessCluster+"-firewall-workload-config", secret))
	reached, err := clientcmd.RESTConfigFromKubeConfig(secret.Data["kubeconfig"])
	require.NoError(t, err)
	assert.Equal(t, "kubernetes", reached.ServerName)
}

func TestWorkloadConnections_ParseWhatCannotBeUsedOnce(t *testing.T) {
	t.Parallel()
	c := newWorkloadConnections()
	opened := 0
	c.open = func(kubeconfig []byte) (*workloadConnection, error) {
		opened++
		// Others are not held up.
		assert.Nil(t, c.get(requestOf("lily")))
		return newWorkloadConnection(kubeconfig)
	}
	for range 3 {
		_, err := c.connect(requestOf("rose"), []byte("no kubeconfig"))
		require.ErrorAs(t, err, new(*kubeconfigError))
		assert.Nil(t, c.get(requestOf("rose")))
	}
	assert.Equal(t, 1, opened)
	_, err := c.connect(requestOf("rose"), []byte(workloadKubeconfigText))
	require.Error(t, err, "the authority is none")
	assert.Equal(t, 2, opened)
	_, err = c.connect(requestOf("rose"), []byte(workloadKubeconfigText+strings.Repeat("#", maxKubeconfig)))
	require.ErrorContains(t, err, "it must have 65536 bytes at most")
	assert.Equal(t, 2, opened)
}
