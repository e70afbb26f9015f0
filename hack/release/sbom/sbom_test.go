// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xeipuuv/gojsonschema"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/licences"
)

// tested is a program to write bills of: that of this module.
var tested = sync.OnceValues(func() (Program, error) {
	directory, err := os.MkdirTemp("", "sbom-")
	if err != nil {
		return Program{}, err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	file := filepath.Join(directory, "tested")
	if output, err := exec.Command("go", "build", "-trimpath", "-o", file, "metal-stack.io/infrastructure-apiserver/hack/release").CombinedOutput(); err != nil {
		return Program{}, fmt.Errorf("%w: %s", err, output)
	}
	content, err := os.ReadFile(file)
	return Program{Name: "tested", Platform: build.Platform{OS: "linux", Arch: "amd64"}, Content: content}, err
})

// finder is one for all tests: it keeps what it has found.
var finder = sync.OnceValues(licences.NewFinder)

func newGenerator(t *testing.T) *Generator {
	t.Helper()
	finder, err := finder()
	require.NoError(t, err)
	return &Generator{Version: "v0.1.0", Created: time.Unix(1_800_000_000, 0), Licences: finder}
}

// write returns a bill as it is released, and as the library reads it.
func write(t *testing.T, bill *cdx.BOM) (string, *cdx.BOM) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, Write(&out, bill))
	read := new(cdx.BOM)
	require.NoError(t, cdx.NewBOMDecoder(bytes.NewReader(out.Bytes()), cdx.BOMFileFormatJSON).Decode(read))
	return out.String(), read
}

// validate holds a bill to CycloneDX's own schema.
func validate(t *testing.T, bill string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	require.NoError(t, err)
	read := func(name string) gojsonschema.JSONLoader {
		content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(output)), "schema", name))
		require.NoError(t, err)
		return gojsonschema.NewBytesLoader(content)
	}
	schemas := gojsonschema.NewSchemaLoader()
	require.NoError(t, schemas.AddSchemas(read("spdx.schema.json"), read("jsf-0.82.schemax.json")))
	schema, err := schemas.Compile(read("bom-1.6.schema.json"))
	require.NoError(t, err)
	result, err := schema.Validate(gojsonschema.NewStringLoader(bill))
	require.NoError(t, err)
	assert.Empty(t, result.Errors())
}

func TestOfProgram_HasEveryModule(t *testing.T) {
	t.Parallel()
	program, err := tested()
	require.NoError(t, err)
	bill, err := newGenerator(t).OfProgram(program)
	require.NoError(t, err)
	text, read := write(t, bill)
	validate(t, text)

	info, err := buildinfo.Read(bytes.NewReader(program.Content))
	require.NoError(t, err)
	require.NotEmpty(t, info.Deps)
	components := map[string]cdx.Component{}
	for _, component := range *read.Components {
		components[component.Name] = component
	}
	assert.Len(t, components, len(info.Deps)+1)
	for _, module := range info.Deps {
		component := components[module.Path]
		assert.Equal(t, module.Version, component.Version, module.Path)
		assert.NotNil(t, component.Licenses, "no licence of %s was recognised", module.Path)
	}
	assert.Equal(t, strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go"), components["std"].Version)
	cobra := components["github.com/spf13/cobra"]
	assert.Equal(t, "pkg:golang/github.com/spf13/cobra@"+cobra.Version, cobra.PackageURL)
	require.NotNil(t, cobra.Licenses)
	assert.Equal(t, "Apache-2.0", (*cobra.Licenses)[0].License.ID)

	sum := sha256.Sum256(program.Content)
	assert.Equal(t, hex.EncodeToString(sum[:]), (*read.Metadata.Component.Hashes)[0].Value)
	assert.Equal(t, "2027-01-15T08:00:00Z", read.Metadata.Timestamp)
	require.Len(t, *read.Dependencies, 1)
	assert.Len(t, *(*read.Dependencies)[0].Dependencies, len(components))
}

func TestOfImage_HasProgramAndFiles(t *testing.T) {
	t.Parallel()
	program, err := tested()
	require.NoError(t, err)
	digest := strings.Repeat("0c", 32)
	image := Image{Repository: "registry.example:5000/metal/tested", Digest: "sha256:" + digest, Files: []cdx.Component{Data("tzdata", "2025c", "")}}
	bill, err := newGenerator(t).OfImage(program, image)
	require.NoError(t, err)
	text, read := write(t, bill)
	validate(t, text)
	assert.Equal(t, cdx.ComponentTypeContainer, read.Metadata.Component.Type)
	assert.Equal(t, digest, (*read.Metadata.Component.Hashes)[0].Value)
	assert.Equal(t, "pkg:oci/tested@sha256:"+digest+"?arch=amd64&repository_url=registry.example:5000%2Fmetal%2Ftested&tag=v0.1.0", read.Metadata.Component.PackageURL)
	assert.Equal(t, "tested", (*read.Components)[0].Name)
	assert.Equal(t, "tzdata", (*read.Components)[1].Name)
	assert.Len(t, *read.Dependencies, 2)

	for _, bad := range []Image{{Repository: image.Repository, Digest: "md5:00"}, {Repository: image.Repository}, {Repository: "tested", Digest: image.Digest}} {
		_, err := newGenerator(t).OfImage(program, bad)
		assert.Error(t, err)
	}
}

func TestOfProgram_IsTheSameForTheSameProgram(t *testing.T) {
	t.Parallel()
	program, err := tested()
	require.NoError(t, err)
	serial := func(g *Generator) (string, string) {
		bill, err := g.OfProgram(program)
		require.NoError(t, err)
		text, read := write(t, bill)
		return text, read.SerialNumber
	}
	first, id := serial(newGenerator(t))
	second, _ := serial(newGenerator(t))
	assert.Equal(t, first, second)

	other := newGenerator(t)
	other.Version = "v0.1.1"
	_, otherID := serial(other)
	assert.NotEqual(t, id, otherID)

	timeless := newGenerator(t)
	timeless.Created = time.Time{}
	text, _ := serial(timeless)
	assert.NotContains(t, text, "timestamp")
}

func TestOfProgram_RefusesWhatIsNotBuiltByGo(t *testing.T) {
	t.Parallel()
	_, err := newGenerator(t).OfProgram(Program{Name: "x", Content: []byte("#!/bin/sh\n")})
	assert.ErrorContains(t, err, "x for /")
}
