// SPDX-License-Identifier: Apache-2.0

package options

import (
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"metal-stack.io/infrastructure-apiserver/pkg/baseurl"
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
	_, err := baseurl.Rules{
		Name: "--management-cluster-url", Schemes: []string{"https"}, Example: "https://kubernetes.example.org:6443",
		WithoutUser: "workload clusters authenticate with a token",
	}.Parse(text)
	return err
}
