// SPDX-License-Identifier: Apache-2.0

// Package plugin packs kubectl-metal for the platforms that people type on, and
// writes the manifest by which krew installs it.
package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/krew/pkg/index"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/hack/release/archive"
	"metal-stack.io/infrastructure-apiserver/hack/release/build"
)

const (
	// Program is the name of the plugin's program.
	Program = "kubectl-metal"
	// Manifest is the file that krew reads. Its name is the plugin's.
	Manifest = "metal.yaml"

	// completion is the script by which kubectl completes names.
	completion = "kubectl_complete-metal"

	downloads = "https://github.com/metal-stack/metalstack-apiserver/releases/download"
)

// Platforms are those of a release.
var Platforms = []build.Platform{
	{OS: "linux", Arch: "amd64"}, {OS: "linux", Arch: "arm64"},
	{OS: "darwin", Arch: "amd64"}, {OS: "darwin", Arch: "arm64"},
	{OS: "windows", Arch: "amd64"}, {OS: "windows", Arch: "arm64"},
}

// Select returns the platforms of a release that names list, such as
// "linux/amd64 darwin/arm64", or all of them if it is empty.
func Select(names string) ([]build.Platform, error) {
	if strings.TrimSpace(names) == "" {
		return Platforms, nil
	}
	var selected []build.Platform
	for name := range strings.FieldsFuncSeq(names, func(r rune) bool { return r == ' ' || r == ',' }) {
		platform, err := find(name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(selected, platform) {
			return nil, fmt.Errorf("platform %q is there twice", name)
		}
		selected = append(selected, platform)
	}
	return selected, nil
}

func find(name string) (build.Platform, error) {
	var known []string
	for _, platform := range Platforms {
		if platform.String() == name {
			return platform, nil
		}
		known = append(known, platform.String())
	}
	return build.Platform{}, fmt.Errorf("unsupported platform %q: supported are %s", name, strings.Join(known, ", "))
}

// Archive returns the name of a platform's archive.
func Archive(platform build.Platform) string {
	return fmt.Sprintf("%s_%s_%s.tar.gz", Program, platform.OS, platform.Arch)
}

// Write builds the plugin of the repository in source for platforms, and writes an
// archive for each and krew's manifest of them into directory, which exists. made is
// called after each file with its name.
func Write(ctx context.Context, source, directory string, platforms []build.Platform, stamp build.Stamp, made func(string)) error {
	manifest, err := readTemplate(filepath.Join(source, "artifacts", "krew", Manifest))
	if err != nil {
		return err
	}
	manifest.Spec.Version = stamp.Version
	for _, platform := range platforms {
		content, err := pack(ctx, source, platform, stamp)
		if err != nil {
			return err
		}
		name := Archive(platform)
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o644); err != nil {
			return err
		}
		made(name)
		manifest.Spec.Platforms = append(manifest.Spec.Platforms, entry(platform, stamp, content))
	}
	content, err := yaml.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(directory, Manifest), content, 0o644); err != nil {
		return err
	}
	made(Manifest)
	return nil
}

// entry is what the manifest says of a platform's archive.
func entry(platform build.Platform, stamp build.Stamp, content []byte) index.Platform {
	sum := sha256.Sum256(content)
	files := []index.FileOperation{{From: Executable(platform), To: "."}, {From: "LICENSE", To: "."}}
	if platform.OS != "windows" { // which runs no script of a shell
		files = append(files, index.FileOperation{From: completion, To: "."})
	}
	return index.Platform{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"os": platform.OS, "arch": platform.Arch}},
		URI:      downloads + "/" + stamp.Version + "/" + Archive(platform),
		Sha256:   hex.EncodeToString(sum[:]),
		Bin:      Executable(platform),
		Files:    files,
	}
}

// readTemplate reads what the manifest says of the plugin itself.
func readTemplate(file string) (*index.Plugin, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var manifest index.Plugin
	if err := yaml.UnmarshalStrict(content, &manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &manifest, nil
}

// Executable returns the name of the program in the archive of a platform.
func Executable(platform build.Platform) string {
	if platform.OS == "windows" {
		return Program + ".exe"
	}
	return Program
}

// pack returns the archive of a platform.
func pack(ctx context.Context, source string, platform build.Platform, stamp build.Stamp) ([]byte, error) {
	work, err := os.MkdirTemp("", "kubectl-metal-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	program, err := build.Program(ctx, source, work, Program, platform, stamp)
	if err != nil {
		return nil, err
	}
	var files []archive.File
	for _, file := range []struct {
		path       string
		executable bool
	}{
		{filepath.Join(source, "LICENSE"), false},
		{program, true},
		{filepath.Join(source, "artifacts", "krew", completion), true},
	} {
		content, err := os.ReadFile(file.path)
		if err != nil {
			return nil, err
		}
		files = append(files, archive.File{Name: filepath.Base(file.path), Content: content, Executable: file.executable})
	}
	var out bytes.Buffer
	err = archive.Write(&out, files)
	return out.Bytes(), err
}
