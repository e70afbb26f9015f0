// SPDX-License-Identifier: Apache-2.0

package options

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"metal-stack.io/infrastructure-apiserver/pkg/controller"
)

// systemAuthorities as --management-cluster-ca-file are the authorities of the system.
const systemAuthorities = "-"

// ControllerOptions returns the options of the reconcilers. The configuration of clients of
// the API has the authority of the management cluster, unless a flag names another.
func (o *Options) ControllerOptions(config *rest.Config) (controller.Options, error) {
	options := o.Controller
	options.ManagementCluster = controller.ManagementCluster{
		URL:       strings.TrimRight(o.ManagementClusterURL, "/"),
		Authority: func() (string, error) { return o.managementAuthority(config) },
	}
	// It is read again whenever it is used, since authorities are rotated.
	_, err := options.ManagementCluster.Authority()
	return options, err
}

// managementAuthority returns the certificates, PEM, that verify the API server of the
// management cluster, and nothing else that their file may have.
func (o *Options) managementAuthority(config *rest.Config) (string, error) {
	file, content, source := o.ManagementClusterCAFile, []byte(nil), "--management-cluster-ca-file"
	switch {
	case file == systemAuthorities:
		return "", nil
	case file == "" && len(config.CAData) > 0:
		content, source = config.CAData, "certificate-authority-data of --kubeconfig"
	case file == "" && o.Kubeconfig != "":
		file, source = config.CAFile, "certificate-authority of --kubeconfig"
	case file == "":
		file, source = config.CAFile, "authority of the in-cluster configuration"
	}
	if content == nil {
		if file == "" {
			return "", nil
		}
		var err error
		if content, err = os.ReadFile(file); err != nil {
			return "", fmt.Errorf("%s: %w", source, err)
		}
	}
	certificates, err := cert.ParseCertsPEM(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	bundle, err := cert.EncodeCertificates(certificates...)
	return string(bundle), err
}

// validateManagementClusterURL returns why a URL is none of an API server.
func validateManagementClusterURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// What it quotes may hold a password.
		return errors.New("--management-cluster-url must be a URL, such as https://kubernetes.example.org:6443")
	case u.User != nil:
		return errors.New("--management-cluster-url must have no user and no password: workload clusters authenticate with a token")
	case u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("--management-cluster-url must begin with https:// and a host, got %q", text)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		// They may hold a secret.
		return fmt.Errorf("--management-cluster-url must have no query and no fragment, got one after %q", u.Scheme+"://"+u.Host+u.EscapedPath())
	}
	return nil
}
