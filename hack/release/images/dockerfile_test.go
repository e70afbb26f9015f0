// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/images"
)

// A dockerfile is this repository's, as BuildKit parses it.
type dockerfile struct {
	stages []instructions.Stage
	// args are what --build-arg says.
	args []string
}

func parseDockerfile(t *testing.T) dockerfile {
	t.Helper()
	file, err := os.Open(filepath.Join(source(t), "Dockerfile"))
	require.NoError(t, err)
	defer file.Close()
	parsed, err := parser.Parse(file)
	require.NoError(t, err)
	stages, _, err := instructions.Parse(parsed.AST, nil)
	require.NoError(t, err)
	return dockerfile{stages: stages, args: []string{"VERSION=" + stamp.Version, "COMMIT=" + stamp.Commit}}
}

func (d dockerfile) stage(name string) *instructions.Stage {
	for i := range d.stages {
		if d.stages[i].Name == name {
			return &d.stages[i]
		}
	}
	return nil
}

// An outcome is what a stage makes of what it is based on.
type outcome struct {
	config v1.Config
	// copied is what is copied from the stage build, and where to.
	copied map[string]string
	base   string
}

// run applies the instructions of a stage, and of those that it is based on.
func (d dockerfile) run(t *testing.T, name string) outcome {
	t.Helper()
	stage := d.stage(name)
	if stage == nil {
		return outcome{config: v1.Config{Labels: map[string]string{}}, copied: map[string]string{}, base: name}
	}
	o := d.run(t, stage.BaseName)
	lex := shell.NewLex('\\')
	expand := func(word string) (string, error) {
		value, _, err := lex.ProcessWord(word, shell.EnvsFromSlice(append(slices.Clone(o.config.Env), d.args...)))
		return value, err
	}
	for _, command := range stage.Commands {
		if expandable, ok := command.(instructions.SupportsSingleWordExpansion); ok {
			require.NoError(t, expandable.Expand(expand))
		}
		switch c := command.(type) {
		case *instructions.ArgCommand:
			for _, arg := range c.Args {
				assert.Contains(t, []string{"VERSION", "COMMIT"}, arg.Key)
			}
		case *instructions.CopyCommand:
			assert.Equal(t, "build", c.From)
			assert.Empty(t, c.Chown+c.Chmod, "files are root's")
			for _, path := range c.SourcePaths {
				o.copied[path] = c.DestPath
			}
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				o.config.Env = append(o.config.Env, pair.Key+"="+pair.Value)
			}
		case *instructions.LabelCommand:
			for _, pair := range c.Labels {
				o.config.Labels[pair.Key] = pair.Value
			}
		case *instructions.UserCommand:
			o.config.User = c.User
		case *instructions.WorkdirCommand:
			o.config.WorkingDir = c.Path
		case *instructions.EntrypointCommand:
			assert.False(t, c.PrependShell, "there is no shell")
			o.config.Entrypoint = c.CmdLine
		default:
			assert.Fail(t, "an instruction that package images does not follow", "%s of stage %s", command.Name(), name)
		}
	}
	return o
}

func TestDockerfile_MakesTheSameImages(t *testing.T) {
	t.Parallel()
	for _, program := range images.Programs() {
		d := parseDockerfile(t)
		require.NotNil(t, d.stage(program.Name), "no image of %s", program.Name)
		o := d.run(t, program.Name)
		assert.Equal(t, images.Config(program, stamp), o.config, program.Name)
		assert.Equal(t, "scratch", o.base, program.Name)
		assert.Equal(t, map[string]string{"/rootfs": "/", "/out/" + program.Name: "/" + program.Name}, o.copied, program.Name)
	}
}

func TestDockerfile_BuildsTheSamePrograms(t *testing.T) {
	t.Parallel()
	d := parseDockerfile(t)
	stage := d.stage("build")
	require.NotNil(t, stage)
	assert.Equal(t, "$BUILDPLATFORM", stage.Platform, "the compiler is not emulated")
	// Workflows build with the Go of go.mod's toolchain.
	for _, module := range []string{"go.mod", "hack/release/go.mod"} {
		content, err := os.ReadFile(filepath.Join(source(t), module))
		require.NoError(t, err)
		assert.Contains(t, string(content), "\ntoolchain go"+strings.TrimPrefix(stage.BaseName, "golang:")+"\n", module)
	}
	var script []string
	for _, command := range stage.Commands {
		if run, ok := command.(*instructions.RunCommand); ok {
			script = append(script, run.CmdLine...)
		}
	}
	text := strings.Join(script, "\n")
	flags := regexp.MustCompile(`-ldflags="([^"]*)"`).FindStringSubmatch(text)
	require.NotNil(t, flags, text)
	expanded := strings.NewReplacer("$VERSION", stamp.Version, "$COMMIT", stamp.Commit).Replace(flags[1])
	assert.Equal(t, stamp.LDFlags(), strings.Join(strings.Fields(expanded), " "))
	for _, want := range []string{"CGO_ENABLED=0", "GOOS=$TARGETOS", "GOARCH=$TARGETARCH", "-trimpath", "-buildvcs=false", "./cmd/...", "go -C hack/release run ./rootfs/write /rootfs"} {
		assert.Contains(t, text, want)
	}
}
