// SPDX-License-Identifier: Apache-2.0

package options

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

func TestOptions_ValidateManagementClusterURL(t *testing.T) {
	t.Parallel()
	for url, message := range map[string]string{
		"":                                  "",
		"https://kubernetes.example.org":    "",
		"https://10.0.0.1:6443/":            "",
		"https://[2001:db8::1]:6443":        "",
		"https://rancher.example.org/k8s/c": "",
		"http://kubernetes.example.org":     "must begin with https:// and a host",
		"kubernetes.example.org:6443":       "--management-cluster-url must",
		"https://":                          "must begin with https:// and a host",
		"https://:6443":                     "must begin with https:// and a host",
		"https://a.example.org?x=y":         `--management-cluster-url must have no query and no fragment, such as https://kubernetes.example.org:6443, got one after "https://a.example.org"`,
		"https://a.example.org/b?x=secret":  `got one after "https://a.example.org/b"`,
		"https://a.example.org#secret":      "must have no query and no fragment",
		"https://a.example.org?":            "must have no query and no fragment",
		"https://a.example.org#x":           "must have no query and no fragment",
		"https://me:secret@a.example.org":   "workload clusters authenticate with a token",
		"https://me:secret@a b\x7f":         "must be a URL",
	} {
		o := New()
		o.ManagementClusterURL = url
		err := o.Validate()
		if message == "" {
			require.NoError(t, err, url)
			continue
		}
		require.ErrorContains(t, err, message, url)
		assert.NotContains(t, err.Error(), "secret", url)
	}
}

// authority is a certificate and its key, PEM.
func authority(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signed, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "kubernetes"}, private)
	require.NoError(t, err)
	certificate, err = cert.EncodeCertificates(signed)
	require.NoError(t, err)
	key, err = keyutil.MarshalPrivateKeyToPEM(private)
	require.NoError(t, err)
	return certificate, key
}

func TestOptions_ManagementClusterAuthority(t *testing.T) {
	t.Parallel()
	own, _ := authority(t)
	named, key := authority(t)
	file := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "ca.crt")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	for name, c := range map[string]struct {
		flag   string
		config rest.TLSClientConfig
		want   []byte
	}{
		"the client's own data":             {"", rest.TLSClientConfig{CAData: own}, own},
		"the client's own file":             {"", rest.TLSClientConfig{CAFile: file(own)}, own},
		"a client that trusts the system":   {"", rest.TLSClientConfig{}, nil},
		"a file of the flag":                {file(named), rest.TLSClientConfig{CAData: own}, named},
		"a file that also has the key":      {file(append(key, named...)), rest.TLSClientConfig{}, named},
		"the system, because the flag says": {"-", rest.TLSClientConfig{CAData: own}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := New()
			o.ManagementClusterURL, o.ManagementClusterCAFile = "https://kubernetes.example.org/", c.flag
			options, err := o.ControllerOptions(&rest.Config{TLSClientConfig: c.config})
			require.NoError(t, err)
			assert.Equal(t, "https://kubernetes.example.org", options.ManagementCluster.URL)
			got, err := options.ManagementCluster.Authority()
			require.NoError(t, err)
			assert.Equal(t, string(c.want), got)
		})
	}
}

func TestOptions_ManagementClusterAuthorityIsReadAgain(t *testing.T) {
	t.Parallel()
	before, _ := authority(t)
	after, _ := authority(t)
	o := New()
	o.ManagementClusterCAFile = filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(o.ManagementClusterCAFile, before, 0o600))
	options, err := o.ControllerOptions(&rest.Config{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(o.ManagementClusterCAFile, after, 0o600))
	got, err := options.ManagementCluster.Authority()
	require.NoError(t, err)
	assert.Equal(t, string(after), got)
}

func TestOptions_RefusesUnreadableManagementClusterAuthority(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(empty, []byte("no certificate"), 0o600))
	missing := filepath.Join(t.TempDir(), "missing")
	for name, c := range map[string]struct {
		flag, kubeconfig string
		config           rest.TLSClientConfig
		says             string
	}{
		"no certificate in the file of the flag": {flag: empty, says: "--management-cluster-ca-file: "},
		"no file of the flag":                    {flag: missing, says: "--management-cluster-ca-file: open " + missing},
		"no certificate in the kubeconfig":       {kubeconfig: "k", config: rest.TLSClientConfig{CAData: []byte("none")}, says: "certificate-authority-data of --kubeconfig: "},
		"no file of the kubeconfig":              {kubeconfig: "k", config: rest.TLSClientConfig{CAFile: missing}, says: "certificate-authority of --kubeconfig: open " + missing},
		"no file in the Pod":                     {config: rest.TLSClientConfig{CAFile: missing}, says: "authority of the in-cluster configuration: open " + missing},
	} {
		o := New()
		o.ManagementClusterCAFile, o.Kubeconfig = c.flag, c.kubeconfig
		_, err := o.ControllerOptions(&rest.Config{TLSClientConfig: c.config})
		require.ErrorContains(t, err, c.says, name)
	}
}
