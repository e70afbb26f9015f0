// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	clientcmdv1 "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

const (
	// seedKubeconfigPath is where a firewall-controller looks for its kubeconfig of the
	// management cluster.
	seedKubeconfigPath = "/etc/firewall-controller/.seed-kubeconfig"
	// ignitionVersion is the version of ignition that metal-stack's firewall images read.
	ignitionVersion = "2.3.0"
)

// firewallUnits are the units of metal-stack's firewall images that need the kubeconfig. The
// second sends what was dropped to the workload cluster.
var firewallUnits = []string{"firewall-controller.service", "droptailer.service"}

// seedKubeconfig is a kubeconfig whose current context has the name of the namespace in which a
// firewall-controller looks for its Firewall. Equal arguments give equal bytes.
func seedKubeconfig(namespace, server, authority, token string) ([]byte, error) {
	return yaml.Marshal(&clientcmdv1.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: namespace,
		Clusters: []clientcmdv1.NamedCluster{{Name: namespace, Cluster: clientcmdv1.Cluster{
			Server: server, CertificateAuthorityData: []byte(authority),
		}}},
		Contexts: []clientcmdv1.NamedContext{{Name: namespace, Context: clientcmdv1.Context{
			Cluster: namespace, AuthInfo: namespace, Namespace: namespace,
		}}},
		AuthInfos: []clientcmdv1.NamedAuthInfo{{Name: namespace, AuthInfo: clientcmdv1.AuthInfo{Token: token}}},
	})
}

// addToIgnition adds a file that only root can read to an ignition config, which may be empty,
// and enables units. Its errors quote nothing of the config. Equal arguments give equal bytes.
func addToIgnition(config []byte, file string, content []byte, units []string) ([]byte, error) {
	all := map[string]any{}
	if len(config) > 0 {
		var err error
		if all, err = parseIgnition(config); err != nil {
			return nil, err
		}
	} else {
		all["ignition"] = map[string]any{"version": ignitionVersion}
	}
	storage, err := objectIn(all, "storage")
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"files", "directories", "links"} {
		nodes, err := listIn(storage, "storage", kind)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(nodes, func(node any) bool {
			text, _ := fieldOf(node, "path").(string)
			return path.Clean(text) == file || (kind != "directories" && strings.HasPrefix(file, path.Clean(text)+"/"))
		}) {
			return nil, fmt.Errorf("storage.%s has %s or what is in its place already: must leave it to the controller manager", kind, file)
		}
	}
	files, _ := listIn(storage, "storage", "files")
	storage["files"] = append(files, map[string]any{
		"filesystem": "root", "path": file, "mode": 0o600,
		"user": map[string]any{"id": 0}, "group": map[string]any{"id": 0},
		"contents": map[string]any{"source": "data:," + strings.ReplaceAll(url.QueryEscape(string(content)), "+", "%20")},
	})
	systemd, err := objectIn(all, "systemd")
	if err != nil {
		return nil, err
	}
	there, err := listIn(systemd, "systemd", "units")
	if err != nil {
		return nil, err
	}
	for _, name := range units {
		// What the config says of a unit is the user's decision.
		if !slices.ContainsFunc(there, func(unit any) bool { return fieldOf(unit, "name") == name }) {
			there = append(there, map[string]any{"name": name, "enable": true, "enabled": true})
		}
	}
	systemd["units"] = there
	return json.Marshal(all)
}

// parseIgnition parses an ignition config of a version that metal-stack's firewall images read.
func parseIgnition(config []byte) (map[string]any, error) {
	var all map[string]any
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.UseNumber()
	if err := decoder.Decode(&all); err != nil || decoder.More() || all == nil {
		return nil, errors.New("must be an ignition config of version 2 as JSON, which is not the case of cloud-init")
	}
	version, _ := fieldOf(all["ignition"], "version").(string)
	if !strings.HasPrefix(version, "2.") || len(version) > len("2.99.99-experimental") {
		return nil, errors.New(`ignition.version must be a version 2, such as "2.3.0", which is what metal-stack's firewall images read`)
	}
	if fieldOf(fieldOf(all["ignition"], "config"), "replace") != nil {
		return nil, errors.New("ignition.config.replace must not be set: a firewall takes that config in the place of this one, so the kubeconfig would be lost")
	}
	return all, nil
}

// objectIn returns a section of an ignition config, which it makes if there is none.
func objectIn(config map[string]any, section string) (map[string]any, error) {
	switch value := config[section].(type) {
	case nil:
		made := map[string]any{}
		config[section] = made
		return made, nil
	case map[string]any:
		return value, nil
	}
	return nil, fmt.Errorf("%s must be an object", section)
}

func listIn(section map[string]any, name, list string) ([]any, error) {
	switch value := section[list].(type) {
	case nil:
		return nil, nil
	case []any:
		return value, nil
	}
	return nil, fmt.Errorf("%s.%s must be a list", name, list)
}

func fieldOf(object any, field string) any {
	fields, _ := object.(map[string]any)
	return fields[field]
}
