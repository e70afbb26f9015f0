// SPDX-License-Identifier: Apache-2.0

// Package chart_test holds the Helm chart in artifacts/charts to artifacts/deploy, and to
// what its README.md says, with the real helm and a real kube-apiserver.
package chart_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// commandLimit is how long one command may take.
const commandLimit = 2 * time.Minute

// chart is the chart's directory.
func chart() string {
	return filepath.Join(build.Root(), "artifacts", "charts", "metalstack-apiserver")
}

// command is a program in bin/, or another one, that reaches the cluster of a kubeconfig, or none.
func command(t *testing.T, kubeconfig, name string, args ...string) *exec.Cmd {
	t.Helper()
	bin := filepath.Join(build.Root(), "bin")
	for _, program := range []string{"helm", "kubectl"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			t.Fatalf("%s: no %s; build it with: make %s", bin, program, program)
		}
		if name == program {
			name = filepath.Join(bin, program)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + bin + ":" + os.Getenv("PATH"), "KUBECONFIG=" + kubeconfig}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a command. The error is that of the exit code.
func run(cmd *exec.Cmd) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// template is what `helm template` makes of the chart.
func template(t *testing.T, namespace string, flags ...string) (text, stderr string, err error) {
	t.Helper()
	return run(command(t, "", "helm", append([]string{"template", "any-name", chart(), "--namespace", namespace}, flags...)...))
}

// render is the objects that `helm template` makes of the chart.
func render(t *testing.T, namespace string, flags ...string) []*unstructured.Unstructured {
	t.Helper()
	text, stderr, err := template(t, namespace, flags...)
	require.NoError(t, err, stderr)
	return decode(t, text)
}

func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewBufferString(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		object := &unstructured.Unstructured{}
		require.NoError(t, yaml.UnmarshalStrict(document, &object.Object), string(document))
		if object.Object != nil {
			objects = append(objects, object)
		}
	}
}
