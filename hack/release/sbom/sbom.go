// SPDX-License-Identifier: Apache-2.0

// Package sbom writes bills of materials of what is released, as CycloneDX has them:
// of a program, the modules that are linked into it, as the program itself says, and of
// an image, its program and what else is in it. The same program has the same bill.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
	"github.com/package-url/packageurl-go"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/licences"
)

const (
	vendor     = "metal-stack"
	repository = "https://github.com/metal-stack/metalstack-apiserver"
)

// Generator generates the bills of a release.
type Generator struct {
	// Version is the release's.
	Version string
	// Created is when bills say that they were made: the time of the commit, or zero,
	// and then they do not say it.
	Created time.Time
	// Licences finds those of modules.
	Licences *licences.Finder
}

// Program is a program as it is released.
type Program struct {
	// Name is that of the program, and Platform what it runs on.
	Name     string
	Platform build.Platform
	// Content are the bytes of the program's file.
	Content []byte
}

// Image is what an image has beside its program.
type Image struct {
	// Repository is the image's name, without a tag.
	Repository string
	// Digest is that of the image for the program's platform, with sha256: before it.
	Digest string
	// Files are what is in it beside the program.
	Files []cdx.Component
}

// OfProgram returns the bill of a program.
func (g *Generator) OfProgram(program Program) (*cdx.BOM, error) {
	subject, modules, err := g.program(program)
	if err != nil {
		return nil, err
	}
	return g.bill(subject, modules, []cdx.Dependency{depends(subject, modules)}), nil
}

// OfImage returns the bill of the image of a program.
func (g *Generator) OfImage(program Program, image Image) (*cdx.BOM, error) {
	component, modules, err := g.program(program)
	if err != nil {
		return nil, err
	}
	algorithm, sum, ok := strings.Cut(image.Digest, ":")
	if !ok || algorithm != "sha256" {
		return nil, fmt.Errorf("image of %s: invalid digest %q: must begin with sha256 and a colon", program.Name, image.Digest)
	}
	_, name, ok := cutLast(image.Repository, "/")
	if !ok {
		return nil, fmt.Errorf("image of %s: invalid repository %q: must have a registry", program.Name, image.Repository)
	}
	purl := packageurl.NewPackageURL(packageurl.TypeOCI, "", name, image.Digest, packageurl.Qualifiers{
		{Key: "arch", Value: program.Platform.Arch}, {Key: "repository_url", Value: image.Repository}, {Key: "tag", Value: g.Version},
	}, "").ToString()
	subject := cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeContainer, Name: image.Repository, Version: g.Version, PackageURL: purl,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}, Licenses: licenses("Apache-2.0"),
	}
	parts := append([]cdx.Component{component}, image.Files...)
	return g.bill(subject, slices.Concat(parts, modules), []cdx.Dependency{depends(subject, parts), depends(component, modules)}), nil
}

// program returns a program as a component, and the modules that are linked into it,
// the standard library among them.
func (g *Generator) program(program Program) (cdx.Component, []cdx.Component, error) {
	info, err := buildinfo.Read(bytes.NewReader(program.Content))
	if err != nil {
		return cdx.Component{}, nil, fmt.Errorf("%s for %s: %w", program.Name, program.Platform, err)
	}
	sum := sha256.Sum256(program.Content)
	main := golang(info.Main.Path, g.Version)
	main.Subpath = strings.TrimPrefix(strings.TrimPrefix(info.Path, info.Main.Path), "/")
	main.Qualifiers = packageurl.Qualifiers{{Key: "goarch", Value: program.Platform.Arch}, {Key: "goos", Value: program.Platform.OS}}
	component := cdx.Component{
		BOMRef: main.ToString(), Type: cdx.ComponentTypeApplication, Name: program.Name, Version: g.Version, PackageURL: main.ToString(),
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}, Licenses: licenses("Apache-2.0"),
	}
	modules := []cdx.Component{standardLibrary(info.GoVersion)}
	for _, dependency := range info.Deps {
		module, err := g.module(dependency)
		if err != nil {
			return cdx.Component{}, nil, fmt.Errorf("%s for %s: %w", program.Name, program.Platform, err)
		}
		modules = append(modules, module)
	}
	return component, modules, nil
}

func standardLibrary(version string) cdx.Component {
	// A version may have the experiments of the compiler behind it.
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "go"), " ")
	purl := golang("std", version).ToString()
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: "std", Version: version, PackageURL: purl, Licenses: licenses("BSD-3-Clause")}
}

func (g *Generator) module(module *debug.Module) (cdx.Component, error) {
	if module.Replace != nil {
		module = module.Replace
	}
	if module.Version == "" {
		return cdx.Component{}, fmt.Errorf("module %s has no version: a release is not built from a directory of a machine", module.Path)
	}
	found, err := g.Licences.Of(module.Path, module.Version)
	if err != nil {
		return cdx.Component{}, err
	}
	purl := golang(module.Path, module.Version).ToString()
	component := cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, PackageURL: purl, Licenses: licenses(found...),
	}
	if module.Sum != "" {
		// Of the module's files, as go.sum has it, not of an archive.
		component.Properties = &[]cdx.Property{{Name: "go:sum", Value: module.Sum}}
	}
	return component, nil
}

func (g *Generator) bill(subject cdx.Component, components []cdx.Component, dependencies []cdx.Dependency) *cdx.BOM {
	bill := cdx.NewBOM()
	identity := subject.PackageURL + " " + (*subject.Hashes)[0].Value
	bill.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(identity)).URN()
	bill.Metadata = &cdx.Metadata{
		Component: &subject,
		Supplier:  &cdx.OrganizationalEntity{Name: vendor, URL: &[]string{repository}},
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: "hack/release", Version: g.Version, Group: vendor,
		}}},
	}
	if !g.Created.IsZero() {
		bill.Metadata.Timestamp = g.Created.UTC().Format(time.RFC3339)
	}
	bill.Components = &components
	bill.Dependencies = &dependencies
	return bill
}

// Write writes a bill as JSON.
func Write(out io.Writer, bill *cdx.BOM) error {
	encoder := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true).SetEscapeHTML(false)
	return encoder.EncodeVersion(bill, cdx.SpecVersion1_6)
}

// Data returns a component that is neither a program nor linked into one, such as
// certificates.
func Data(name, version, purl string, licence ...string) cdx.Component {
	return cdx.Component{BOMRef: "data:" + name, Type: cdx.ComponentTypeData, Name: name, Version: version, PackageURL: purl, Licenses: licenses(licence...)}
}

func depends(on cdx.Component, parts []cdx.Component) cdx.Dependency {
	var references []string
	for _, part := range parts {
		references = append(references, part.BOMRef)
	}
	return cdx.Dependency{Ref: on.BOMRef, Dependencies: &references}
}

func licenses(ids ...string) *cdx.Licenses {
	if len(ids) == 0 {
		return nil
	}
	var choices cdx.Licenses
	for _, id := range ids {
		choices = append(choices, cdx.LicenseChoice{License: &cdx.License{ID: id}})
	}
	return &choices
}

// golang returns the package URL of a module.
func golang(path, version string) *packageurl.PackageURL {
	namespace, name, _ := cutLast(path, "/")
	return packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, version, nil, "")
}

// cutLast cuts at the last separator. Without one, all of s is after it.
func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(separator):], true
}
