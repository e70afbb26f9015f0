// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// The jobs are named as artifacts/deploy names them, and both have the labels that its
// ServiceMonitors attach.
const configuration = `global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: [rules.yml]
scrape_configs:
- job_name: metalstack-apiserver
  scheme: https
  tls_config: {ca_file: ca.crt, cert_file: client.crt, key_file: client.key}
  static_configs: [{targets: [%q], labels: {namespace: standalone, pod: metalstack-apiserver-0}}]
- job_name: metalstack-controller-manager
  static_configs: [{targets: [%q], labels: {namespace: standalone, pod: metalstack-controller-manager-0}}]
`

// writeConfiguration writes what Prometheus needs into a directory.
func writeConfiguration(dir, kubeconfig, manager string, r *rules) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return fmt.Errorf("%s: %w", kubeconfig, err)
	}
	groups, err := yaml.Marshal(r.Spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"prometheus.yml": fmt.Appendf(nil, configuration, server.Host, manager),
		"rules.yml":      groups,
		"ca.crt":         config.CAData,
		"client.crt":     config.CertData,
		"client.key":     config.KeyData,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
