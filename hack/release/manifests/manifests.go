// SPDX-License-Identifier: Apache-2.0

// Package manifests writes what a release is installed from: install.yaml for
// kubectl, and the files that clusterctl takes. All of it comes from artifacts of
// the repository; what is added are the images of the release.
package manifests

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Images are those of a release.
type Images struct {
	// Registry is the prefix of their names, such as ghcr.io/metal-stack.
	Registry string
	// Tag is that of all of them.
	Tag string
	// Digests are those of the images by the name of the program, with sha256: before
	// them. An image without one is referred to by its tag alone.
	Digests map[string]string
}

// Deployed are the programs that an installation runs.
var Deployed = []string{"metalstack-apiserver", "metalstack-controller-manager"}

// placeholder is the prefix of the images' names in artifacts/deploy.
const placeholder = "ghcr.io/metal-stack/"

// Reference returns the image of a program: name:tag, or name:tag@digest.
func (i Images) Reference(program string) string {
	reference := i.Registry + "/" + program + ":" + i.Tag
	if digest := i.Digests[program]; digest != "" {
		reference += "@" + digest
	}
	return reference
}

// rendered are the files that kustomize makes: of which directory of artifacts, with
// which components, and what stands above the first object.
var rendered = []struct {
	file, base string
	components []string
	head       string
}{
	{"install.yaml", "deploy", nil, `# metalstack-apiserver %[1]s for a Kubernetes cluster, 1.33 or later:
#   kubectl apply -f install.yaml
# Pods wait for the Secret metal-api in metal-stack-system, with the keys url and hmac.
`},
	{"install-monitoring.yaml", "deploy", []string{"deploy/components/monitoring"}, `# metalstack-apiserver %[1]s, with monitors, alerts and a dashboard for the Prometheus
# operator, whose kinds must be there, and Grafana:
#   kubectl apply -f install-monitoring.yaml
# Pods wait for the Secret metal-api in metal-stack-system, with the keys url and hmac.
`},
	{"infrastructure-components.yaml", "clusterctl", nil, ""},
}

// assembled are the files that are put together from files of artifacts/clusterctl.
var assembled = []struct {
	file  string
	parts []string
}{
	{"metadata.yaml", []string{"metadata.yaml"}},
	{"clusterclass-metal-stack.yaml", []string{"clusterclass-metal-stack.yaml"}},
	{"addons-metal-ccm.yaml", []string{"addons-metal-ccm.yaml"}},
	// Flavours: a template, and the add-ons that come with it.
	{"cluster-template.yaml", []string{"cluster-template.yaml", "addons-metal-ccm.yaml"}},
	{"cluster-template-calico.yaml", []string{"cluster-template.yaml", "addons-metal-ccm.yaml", "addons-calico.yaml"}},
	{"cluster-template-kamaji.yaml", []string{"cluster-template-kamaji.yaml", "addons-metal-ccm.yaml"}},
	{"cluster-template-topology.yaml", []string{"cluster-template-topology.yaml", "addons-metal-ccm.yaml"}},
}

// Write writes the manifests of a release of the repository in source into directory,
// which exists, and returns the names of the files.
func Write(source, directory string, images Images) ([]string, error) {
	artifacts := filepath.Join(source, "artifacts")
	if err := CheckVersion(source, images.Tag); err != nil {
		return nil, err
	}
	files, err := inMemory(artifacts)
	if err != nil {
		return nil, err
	}
	var written []string
	write := func(name string, content []byte) error {
		written = append(written, name)
		return os.WriteFile(filepath.Join(directory, name), content, 0o644)
	}
	for _, r := range rendered {
		content, err := render(files, r.base, r.components, images)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.file, err)
		}
		if r.head != "" {
			content = append(fmt.Appendf(nil, r.head, images.Tag), content...)
		}
		if err := write(r.file, content); err != nil {
			return nil, err
		}
	}
	for _, a := range assembled {
		var content bytes.Buffer
		for _, part := range a.parts {
			text, err := os.ReadFile(filepath.Join(artifacts, "clusterctl", part))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.file, err)
			}
			content.Write(text)
		}
		if err := write(a.file, content.Bytes()); err != nil {
			return nil, err
		}
	}
	return written, nil
}

// root is where artifacts are in the file system that kustomize reads.
const root = "/artifacts"

// inMemory returns a file system with what kustomize reads of artifacts, to which
// kustomizations can be added without writing to the repository.
func inMemory(artifacts string) (filesys.FileSystem, error) {
	files := filesys.MakeFsInMemory()
	for _, directory := range []string{"deploy", "clusterctl"} {
		err := filepath.WalkDir(filepath.Join(artifacts, directory), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(artifacts, path)
			if err != nil {
				return err
			}
			return files.WriteFile(filepath.Join(root, relative), content)
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// render is `kubectl kustomize` of an overlay that sets images.
func render(files filesys.FileSystem, base string, components []string, images Images) ([]byte, error) {
	overlay := types.Kustomization{
		TypeMeta:  types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
		Resources: []string{"../" + base},
	}
	for _, component := range components {
		overlay.Components = append(overlay.Components, "../"+component)
	}
	for _, program := range Deployed {
		overlay.Images = append(overlay.Images, types.Image{
			Name: placeholder + program, NewName: images.Registry + "/" + program, NewTag: images.Tag, Digest: images.Digests[program],
		})
	}
	content, err := yaml.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	directory := filepath.Join(root, "overlay")
	if err := files.WriteFile(filepath.Join(directory, "kustomization.yaml"), content); err != nil {
		return nil, err
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // as kubectl does
	objects, err := krusty.MakeKustomizer(options).Run(files, directory)
	if err != nil {
		return nil, err
	}
	content, err = objects.AsYaml()
	if err != nil {
		return nil, err
	}
	for _, program := range Deployed {
		if !bytes.Contains(content, []byte("image: "+images.Reference(program)+"\n")) {
			return nil, fmt.Errorf("artifacts/%s has no container with the image %s%s, so the release's image of %s cannot be set", base, placeholder, program, program)
		}
	}
	return content, nil
}

// CheckVersion returns an error unless metadata.yaml of the repository in source knows
// the series of a version: clusterctl would refuse the release.
func CheckVersion(source, version string) error {
	file := filepath.Join(source, "artifacts", "clusterctl", "metadata.yaml")
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var metadata struct {
		ReleaseSeries []struct{ Major, Minor int } `json:"releaseSeries"`
	}
	if err := yaml.Unmarshal(content, &metadata); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var known []string
	for _, s := range metadata.ReleaseSeries {
		known = append(known, "v"+strconv.Itoa(s.Major)+"."+strconv.Itoa(s.Minor))
	}
	if series := semver.MajorMinor(version); !slices.Contains(known, series) {
		return fmt.Errorf("artifacts/clusterctl/metadata.yaml has no releaseSeries for %s, only for %s: add one with the contract of Cluster API that %s has", series, strings.Join(known, ", "), version)
	}
	return nil
}
