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
	// modes are those of files that have one.
	modes map[string]int
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
				Mode     int    `json:"mode"`
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
	u := &userData{files: map[string][]byte{}, modes: map[string]int{}, config: map[string]map[string]any{}}
	for _, file := range ignition.Storage.Files {
		content, err := dataOf(file.Contents.Source)
		if err != nil {
			return nil, fmt.Errorf("user data: %s: %w", file.Path, err)
		}
		u.files[file.Path], u.modes[file.Path] = content, file.Mode
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

// dataOf is what a data URL has.
func dataOf(source string) ([]byte, error) {
	kind, text, found := strings.Cut(strings.TrimPrefix(source, "data:"), ",")
	if !found || !strings.HasPrefix(source, "data:") {
		return nil, errors.New("it is not in them")
	}
	if strings.HasSuffix(kind, ";base64") {
		return base64.StdEncoding.DecodeString(text)
	}
	content, err := url.PathUnescape(text)
	return []byte(content), err
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
