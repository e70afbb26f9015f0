// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"fmt"
	"strings"
)

// Environment is what metal-ccm reads at its start, and not again.
type Environment struct {
	URL, Token                  string
	Project, Partition, Cluster string
	// ExternalNetwork is the network in which addresses of Services are allocated, and
	// whose addresses are the external ones of Nodes.
	ExternalNetwork string
	// Networks are those whose addresses are announced.
	Networks []string
	// Authorities are certificates, PEM. Without them those of the system are trusted.
	Authorities []byte
}

// ReadEnvironment reads the variables that metal-ccm reads, and the file that Go reads by
// them. readFile reads a file of the container.
func ReadEnvironment(variables map[string]string, readFile func(path string) ([]byte, error)) (Environment, error) {
	for _, required := range []string{"METAL_PROJECT_ID", "METAL_PARTITION_ID", "METAL_CLUSTER_ID", "METAL_API_URL", "METAL_AUTH_TOKEN"} {
		if variables[required] == "" {
			return Environment{}, fmt.Errorf("environment variable %q is required", required)
		}
	}
	e := Environment{
		URL: variables["METAL_API_URL"], Token: variables["METAL_AUTH_TOKEN"],
		Project: variables["METAL_PROJECT_ID"], Partition: variables["METAL_PARTITION_ID"], Cluster: variables["METAL_CLUSTER_ID"],
		ExternalNetwork: variables["METAL_DEFAULT_EXTERNAL_NETWORK_ID"],
	}
	for network := range strings.SplitSeq(variables["METAL_ADDITIONAL_NETWORKS"], ",") {
		if network = strings.TrimSpace(network); network != "" {
			e.Networks = append(e.Networks, network)
		}
	}
	if path := variables["SSL_CERT_FILE"]; path != "" {
		authorities, err := readFile(path)
		if err != nil {
			return Environment{}, err
		}
		e.Authorities = authorities
	}
	return e, nil
}
