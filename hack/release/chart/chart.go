// SPDX-License-Identifier: Apache-2.0

// Package chart packages the Helm chart as `helm package` does, and as the same bytes
// each time.
package chart

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"metal-stack.io/infrastructure-apiserver/hack/release/archive"
	"metal-stack.io/infrastructure-apiserver/hack/release/manifests"
)

// Name is the chart's.
const Name = "metalstack-apiserver"

// Directory is where the chart is in the repository.
const Directory = "artifacts/charts/" + Name

// registry is what values.yaml has.
const registry = "ghcr.io/metal-stack"

// File returns the name of the package of a release: a chart has a version without v.
func File(tag string) string { return Name + "-" + strings.TrimPrefix(tag, "v") + ".tgz" }

// Write packages the chart of the repository in source into directory, which exists,
// with the version and the images of a release.
func Write(source, directory string, images manifests.Images) error {
	files, err := read(filepath.Join(source, filepath.FromSlash(Directory)))
	if err != nil {
		return err
	}
	for file, lines := range map[string]map[string]string{
		"Chart.yaml":  {"version: 0.0.0-devel": "version: " + strings.TrimPrefix(images.Tag, "v"), "appVersion: latest": "appVersion: " + images.Tag + annotations(images)},
		"values.yaml": {"  registry: " + registry: "  registry: " + images.Registry},
	} {
		if err := replace(files, file, lines); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := archive.Write(&out, files); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, File(images.Tag)), out.Bytes(), 0o644)
}

// annotations are lines of Chart.yaml that have the digests of images, by which templates name
// them. They are no values: helm upgrade --reuse-values would keep those of the release before.
func annotations(images manifests.Images) string {
	var lines strings.Builder
	for _, program := range manifests.Deployed {
		if digest := images.Digests[program]; digest != "" {
			fmt.Fprintf(&lines, "\n  metal-stack.io/digest-of-%s: %s", program, digest)
		}
	}
	if lines.Len() == 0 {
		return ""
	}
	return "\nannotations:" + lines.String()
}

// read returns the files of a chart but those that its .helmignore names.
func read(root string) ([]archive.File, error) {
	ignored, err := ignore(filepath.Join(root, ".helmignore"))
	if err != nil {
		return nil, err
	}
	var files []archive.File
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || path == root:
			return err
		case ignored(entry.Name()) && entry.IsDir():
			return fs.SkipDir
		case ignored(entry.Name()) || entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", path)
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		files = append(files, archive.File{Name: Name + "/" + filepath.ToSlash(relative), Content: content})
		return err
	})
	return files, err
}

// ignore reads a .helmignore, and returns whether it names a file or directory. Of
// Helm's patterns it knows those of names.
func ignore(file string) (func(name string) bool, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var patterns []string
	for line := range strings.Lines(string(content)) {
		pattern := strings.TrimSpace(line)
		if pattern == "" || strings.HasPrefix(pattern, "#") {
			continue
		}
		if _, err := path.Match(pattern, ""); err != nil || strings.ContainsAny(pattern, "/!") {
			return nil, fmt.Errorf("%s: unsupported pattern %q: must be that of a name, such as *.orig", file, pattern)
		}
		patterns = append(patterns, pattern)
	}
	return func(name string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			match, _ := path.Match(pattern, name) // its form has been checked
			return match
		})
	}, nil
}

// replace replaces lines of a file of the chart, each of which must be there once.
func replace(files []archive.File, name string, lines map[string]string) error {
	i := slices.IndexFunc(files, func(f archive.File) bool { return f.Name == Name+"/"+name })
	if i < 0 {
		return fmt.Errorf("%s has no %s", Directory, name)
	}
	for old, line := range lines {
		pattern := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(old) + `$`)
		if found := len(pattern.FindAll(files[i].Content, -1)); found != 1 {
			return fmt.Errorf("%s/%s has the line %q %d times, and has to have it once, for a release to replace it", Directory, name, old, found)
		}
		files[i].Content = pattern.ReplaceAllLiteral(files[i].Content, []byte(line))
	}
	return nil
}
