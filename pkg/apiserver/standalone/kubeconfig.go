// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// kubeconfigName names the cluster and the context in the kubeconfig.
const kubeconfigName = "metalstack-standalone"

// WriteKubeconfig writes a kubeconfig of the administrator, readable by its
// owner only. It replaces a file that it wrote earlier, and no other.
func WriteKubeconfig(path, server string, bundle []byte, admin pki.Pair, namespace string) error {
	old, err := clientcmd.LoadFromFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%s is not a kubeconfig and is not overwritten: %w", path, err)
	case !isOwnKubeconfig(old):
		return fmt.Errorf("%s contains clusters other than %q and is not overwritten: choose another file", path, kubeconfigName)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[kubeconfigName] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: bundle}
	config.AuthInfos[AdminName] = &clientcmdapi.AuthInfo{ClientCertificateData: admin.Certificate, ClientKeyData: admin.Key}
	config.Contexts[kubeconfigName] = &clientcmdapi.Context{Cluster: kubeconfigName, AuthInfo: AdminName, Namespace: namespace}
	config.CurrentContext = kubeconfigName
	content, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writePrivate(path, content)
}

// isOwnKubeconfig returns whether WriteKubeconfig wrote a kubeconfig, or it is empty.
func isOwnKubeconfig(config *clientcmdapi.Config) bool {
	for name := range config.Clusters {
		if name != kubeconfigName {
			return false
		}
	}
	return true
}
