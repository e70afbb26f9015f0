// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// userData is what a machine finds at its first boot: files, and kubeadm's
// configuration.
type userData struct {
	files map[string][]byte
	// config are kubeadm's documents by kind.
	config map[string]map[string]any
}

// parseUserData reads an ignition config that Cluster API made.
func parseUserData(text string) (*userData, error) {
	var ignition struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
		Storage struct {
			Files []struct {
				Path     string `json:"path"`
				Contents struct {
					Source string `json:"source"`
				} `json:"contents"`
			} `json:"files"`
		} `json:"storage"`
	}
	// The metal-api takes it encoded, and machines decode it.
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("user data is not encoded as base64")
	}
	if err := json.Unmarshal(decoded, &ignition); err != nil {
		// Not the text itself: keys are in it.
		return nil, errors.New("user data is no ignition config")
	}
	if ignition.Ignition.Version == "" {
		return nil, errors.New("user data is an ignition config without a version")
	}
	u := &userData{files: map[string][]byte{}, config: map[string]map[string]any{}}
	for _, file := range ignition.Storage.Files {
		escaped, found := strings.CutPrefix(file.Contents.Source, "data:,")
		if !found {
			return nil, fmt.Errorf("user data: %s is not in it", file.Path)
		}
		content, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, fmt.Errorf("user data: %s: %w", file.Path, err)
		}
		u.files[file.Path] = []byte(content)
	}
	for _, document := range strings.Split(string(u.files["/etc/kubeadm.yml"]), "\n---") {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(document), &fields); err != nil {
			return nil, fmt.Errorf("user data: /etc/kubeadm.yml: %w", err)
		}
		if kind, _ := fields["kind"].(string); kind != "" {
			u.config[kind] = fields
		}
	}
	return u, nil
}

// hasExternalCloudProvider says whether the kubelet gets --cloud-provider=external.
func (u *userData) hasExternalCloudProvider() bool {
	for _, kind := range []string{"InitConfiguration", "JoinConfiguration"} {
		args, _, _ := unstructured.NestedSlice(u.config[kind], "nodeRegistration", "kubeletExtraArgs")
		for _, arg := range args {
			fields, _ := arg.(map[string]any)
			if fields["name"] == "cloud-provider" && fields["value"] == "external" {
				return true
			}
		}
	}
	return false
}
