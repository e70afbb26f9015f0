// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"
)

func createInvalidIsRefused(s *space) {
	said := s.kubectlIn(restingManifest("node-1"), "create", "--dry-run=server", "-f", "-", "-o=yaml")
	require.Contains(s.t, said, "finalizers:", "the server has done its part")
	require.Contains(s.t, said, "uid:")
	require.Contains(s.t, s.refused("", "get", "msm", "node-1"), "not found")

	wrong := strings.Replace(restingManifest("node-1"), "v1-small-x86", "v1-smal-x86", 1)
	for _, more := range [][]string{nil, {"--dry-run=server"}} {
		said = s.refused(wrong, append([]string{"create", "-f", "-"}, more...)...)
		require.Contains(s.t, said, `The MetalStackMachine "node-1" is invalid: spec.machineType: Unsupported value: "v1-smal-x86": supported values: "c1-large-x86", "v1-small-x86"`)
	}
	require.Contains(s.t, s.refused(strings.Replace(restingManifest("Node_1"), "", "", 1), "create", "-f", "-"), "metadata.name")
	require.Equal(s.t, "metalstackmachine."+group+"/node-1 created\n", s.kubectlIn(restingManifest("node-1"), "create", "-f", "-"))
	require.Contains(s.t, s.refused(restingManifest("node-1"), "create", "-f", "-"), "already exists")
	generated := s.kubectlIn(strings.Replace(restingManifest("x"), "name: x", "generateName: worker-", 1), "create", "-f", "-", "-o=name")
	require.Contains(s.t, generated, "/worker-")
}

func unknownFieldsAreRefused(s *space) {
	manifest := strings.Replace(restingManifest("node-1"), "spec:\n", "spec:\n  colour: red\n", 1)
	for _, how := range []string{"--validate=true", "--validate=strict"} {
		for _, verb := range []string{"create", "apply"} {
			said := s.refused(manifest, verb, how, "-f", "-")
			require.Contains(s.t, said, `unknown field "spec.colour"`, "%s %s", verb, how)
		}
	}
	said := s.refused(manifest, "apply", "--server-side", "-f", "-")
	require.Contains(s.t, said, ".spec.colour: field not declared in schema")
	require.Contains(s.t, s.refused("", "get", "msm", "node-1"), "not found")

	wrong := strings.Replace(restingManifest("node-1"), "  tags:\n  - tier=web\n", "  tags: web\n", 1)
	require.Contains(s.t, s.refused(wrong, "create", "-f", "-"), "tags", "a value of the wrong type")

	o := s.run(manifest, "create", "--validate=warn", "-f", "-")
	require.Zero(s.t, o.code, o.stderr)
	require.Contains(s.t, o.stderr, `Warning: unknown field "spec.colour"`)
	s.kubectl("delete", "msm", "node-1", "--wait=false")
	o = s.run(strings.Replace(manifest, "node-1", "node-2", 1), "create", "--validate=ignore", "-f", "-")
	require.Zero(s.t, o.code, o.stderr)
	require.Empty(s.t, o.stderr)
	require.Empty(s.t, s.field(".spec.colour", "msm", "node-2"))
	o = s.run("", "patch", "msm", "node-2", "--type=merge", `-p={"spec":{"colour":"red"}}`)
	require.Contains(s.t, o.stdout, "no change")
	require.Contains(s.t, o.stderr, `Warning: unknown field "spec.colour"`)
}

// editor is an EDITOR that replaces words.
func (s *space) editor(old, with string) []string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "editor")
	require.NoError(s.t, os.WriteFile(path, []byte("#!/bin/sh\nexec sed -i 's/"+old+"/"+with+"/' \"$1\"\n"), 0o700))
	return []string{"KUBE_EDITOR=" + path, "TMPDIR=" + filepath.Dir(path)}
}

func editChangesObject(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	o := s.runWith(s.editor("color: red", "color: blue"), "", "edit", "msm", "node-1")
	require.Zero(s.t, o.code, o.stderr)
	require.Contains(s.t, o.stdout, "node-1 edited")
	require.Equal(s.t, "blue", s.field(".metadata.labels.color", "msm", "node-1"))

	o = s.runWith(s.editor("color: red", "color: blue"), "", "edit", "msm/node-1")
	require.Contains(s.t, o.stdout+o.stderr, "no changes made")

	o = s.runWith(s.editor("machineType: v1-small-x86", "machineType: v1-smal-x86"), "", "edit", "msm", "node-1")
	require.NotZero(s.t, o.code)
	_, file, found := strings.Cut(o.stderr, `stored to "`)
	require.True(s.t, found, "the work is not lost: %s", o.stderr)
	file, _, _ = strings.Cut(file, `"`)
	saved, err := os.ReadFile(file)
	require.NoError(s.t, err)
	require.Contains(s.t, string(saved), "# * spec.machineType: Unsupported value", "and says what is wrong with it")
	require.Equal(s.t, "v1-small-x86", s.field(".spec.machineType", "msm", "node-1"))

	o = s.runWith(s.editor("tier=web", "tier=db"), "", "edit", "msm", "node-1", "-o=json")
	require.Zero(s.t, o.code, o.stderr)
	require.Equal(s.t, `["tier=db"]`, s.field(".spec.tags", "msm", "node-1"))
}

func labelAndAnnotate(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	for _, verb := range []string{"label", "annotate"} {
		key := map[string]string{"label": ".metadata.labels", "annotate": ".metadata.annotations"}[verb]
		s.kubectl(verb, "msm", "node-1", "shape=round")
		require.Equal(s.t, "round", s.field(key+".shape", "msm", "node-1"))
		require.Contains(s.t, s.refused("", verb, "msm", "node-1", "shape=square"), "--overwrite is false")
		s.kubectl(verb, "msm", "--all", "shape=square", "--overwrite")
		require.Equal(s.t, "square", s.field(key+".shape", "msm", "node-1"))
		require.Contains(s.t, s.kubectl(verb, "msm", "node-1", "--list"), "shape=square")
		s.kubectl(verb, "msm", "-l=color=red", "shape-")
		require.Empty(s.t, s.field(key+".shape", "msm", "node-1"))
		require.Contains(s.t, s.refused("", verb, "msm", "node-1", "shape=round", "--resource-version=1", "--overwrite"), "modified")
	}
	require.Contains(s.t, s.refused("", "label", "msm", "node-1", "color=not a label", "--overwrite"), "color")
	require.Equal(s.t, "1", s.field(".metadata.generation", "msm", "node-1"), "none of this is a new generation")
}

func patchEveryType(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	patch := func(kind, patch string, more ...string) outcome {
		s.t.Helper()
		return s.run("", append([]string{"patch", "msm", "node-1", "--type=" + kind, "--patch=" + patch}, more...)...)
	}
	for kind, text := range map[string]string{
		"json":      `[{"op":"replace","path":"/metadata/labels/color","value":"json"}]`,
		"merge":     `{"metadata":{"labels":{"color":"merge"}}}`,
		"strategic": `{"metadata":{"labels":{"color":"strategic"}}}`,
	} {
		o := patch(kind, text)
		require.Zero(s.t, o.code, "%s: %s", kind, o.stderr)
		require.Contains(s.t, o.stdout, "node-1 patched")
		require.Equal(s.t, kind, s.field(".metadata.labels.color", "msm", "node-1"))
		o = patch(kind, text)
		require.Zero(s.t, o.code, o.stderr)
		require.Contains(s.t, o.stdout, "no change", "%s: the same again", kind)
	}
	o := patch("json", `[{"op":"test","path":"/metadata/labels/color","value":"purple"}]`)
	require.NotZero(s.t, o.code, "it is not as expected")
	s.kubectl("create", "configmap", "built-in")
	require.Equal(s.t, s.refused("", "patch", "configmap", "built-in", "--type=json", `--patch=[{"op":"test","path":"/metadata/name","value":"purple"}]`), o.stderr)
	o = patch("merge", `{"metadata":{"resourceVersion":"1","labels":{"color":"stale"}}}`)
	require.NotZero(s.t, o.code)
	require.Contains(s.t, o.stderr, "the object has been modified")
	o = patch("merge", `{"spec":{"machineType":"v1-smal-x86"}}`)
	require.NotZero(s.t, o.code)
	require.Contains(s.t, o.stderr, "Unsupported value")
	o = patch("merge", `{"metadata":{"labels":{"color":"ghost"}}}`, "--dry-run=server")
	require.Zero(s.t, o.code, o.stderr)
	require.NotEqual(s.t, "ghost", s.field(".metadata.labels.color", "msm", "node-1"))
}

func patchStatusIsSeparate(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	const condition = `{"type":"Sunny","status":"True","reason":"NoClouds","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}`
	for kind, text := range map[string]string{
		"json":      `[{"op":"add","path":"/status/conditions/-","value":` + condition + `}]`,
		"merge":     `{"status":{"conditions":[` + condition + `]}}`,
		"strategic": `{"status":{"conditions":[` + condition + `]}}`,
	} {
		s.kubectl("patch", "msm", "node-1", "--subresource=status", "--type="+kind, "--patch="+text)
		require.Equal(s.t, "NoClouds", s.field(`.status.conditions[?(@.type=="Sunny")].reason`, "msm", "node-1"), kind)
		require.NotEmpty(s.t, s.field(`.status.conditions[?(@.type=="Ready")].reason`, "msm", "node-1"), "%s: the server's conditions stay", kind)
		s.kubectl("patch", "msm", "node-1", "--subresource=status", "--type=merge", `--patch={"status":{"conditions":[]}}`)
		require.Empty(s.t, s.field(`.status.conditions[?(@.type=="Sunny")].reason`, "msm", "node-1"), kind)
	}
	s.kubectl("patch", "msm", "node-1", "--subresource=status", "--type=merge", `--patch={"metadata":{"labels":{"color":"blue"}},"spec":{"image":"ubuntu-22.04"},"status":{"metal":{"phase":"Phoned Home"},"ready":true}}`)
	require.Equal(s.t, "red", s.field(".metadata.labels.color", "msm", "node-1"), "nothing but the status")
	require.Equal(s.t, "ubuntu-24.04", s.field(".spec.image", "msm", "node-1"))
	require.Equal(s.t, "Pending", s.field(".status.metal.phase", "msm", "node-1"), "and of that only what is not the server's")
	require.Equal(s.t, "false", s.field(".status.ready", "msm", "node-1"))
	s.kubectl("patch", "msm", "node-1", "--type=merge", `--patch={"status":{"conditions":[`+condition+`]}}`)
	require.Empty(s.t, s.field(`.status.conditions[?(@.type=="Sunny")].reason`, "msm", "node-1"), "no status but by its subresource")
	require.Contains(s.t, s.refused("", "patch", "msm", "node-1", "--subresource=status", "--type=merge", `--patch={"status":{"conditions":[{"type":"Sunny"}]}}`), "status.conditions[")
}

func replaceNeedsCurrentResourceVersion(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	s.rest("node-1")
	read := s.kubectl("get", "msm", "node-1", "-o=yaml")
	s.kubectlIn(strings.Replace(read, "color: red", "color: blue", 1), "replace", "-f", "-")
	require.Equal(s.t, "blue", s.field(".metadata.labels.color", "msm", "node-1"))
	require.Contains(s.t, s.refused(strings.Replace(read, "color: red", "color: green", 1), "replace", "-f", "-"), "the object has been modified")
	require.Contains(s.t, s.refused(restingManifest("node-2"), "replace", "-f", "-"), "not found")
	// kubectl itself reads the revision that a manifest does not name.
	s.kubectlIn(restingManifest("node-1"), "replace", "-f", "-")
	require.Equal(s.t, "red", s.field(".metadata.labels.color", "msm", "node-1"))
	require.NotEmpty(s.t, s.field(".metadata.finalizers", "msm", "node-1"), "what holds the metal stays")

	s.kubectlIn(templateManifest("small"), "create", "-f", "-")
	uid := s.field(".metadata.uid", "msmt", "small")
	s.kubectlIn(strings.Replace(templateManifest("small"), "v1-small-x86", "c1-large-x86", 1), "replace", "--force", "-f", "-")
	require.NotEqual(s.t, uid, s.field(".metadata.uid", "msmt", "small"), "another object")
}

func unsupportedCommandsAreRefused(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	s.rest("node-1")
	before := s.object("msm", "node-1")
	for _, command := range []string{
		"scale msm/node-1 --replicas=3",
		"autoscale msm/node-1 --max=3",
		"rollout status msm/node-1",
		"rollout restart msm/node-1",
		"rollout undo msm/node-1",
		"rollout history msm/node-1",
		"rollout pause msm/node-1",
		"logs msm/node-1",
		"exec msm/node-1 -- true",
		"port-forward msm/node-1 8080",
		"expose msm node-1 --port=80",
		"set image msm/node-1 x=y",
		"get msm/node-1 --subresource=scale",
		"patch msm node-1 --subresource=scale --type=merge --patch={}",
		"get --raw /apis/" + group + "/v1alpha4/namespaces/" + s.name + "/metalstackmachines/node-1/power",
	} {
		said := s.refused("", strings.Fields(command)...)
		require.NotEmpty(s.t, said, command)
		require.NotContains(s.t, strings.ToLower(said), "internal error", command)
		require.NotContains(s.t, said, "goroutine", command)
	}
	require.Equal(s.t, before, s.object("msm", "node-1"), "nothing was changed")
}

func deleteWaitsForRelease(s *space) {
	s.kubectlIn(clusterManifest("orchid")+"---"+machineManifest("node-1", "orchid"), "create", "-f", "-")
	s.kubectl("wait", "--for=condition=Ready", "msc/orchid", "msm/node-1", "--timeout="+kubectlTimeout)
	s.kubectl("delete", "msm", "node-1", "--dry-run=server")
	require.Empty(s.t, s.field(".metadata.deletionTimestamp", "msm", "node-1"))
	require.Contains(s.t, s.refused("", "delete", "msm", "node-2"), "not found")
	require.Empty(s.t, s.kubectl("delete", "msm", "node-2", "--ignore-not-found"))

	require.Contains(s.t, s.kubectl("delete", "msm", "node-1", "--timeout="+kubectlTimeout), `"node-1" deleted`, "and it waits")
	require.Contains(s.t, s.refused("", "get", "msm", "node-1"), "not found")
	require.Empty(s.t, s.kubectl("get", "msm", "-o=name"), "the machine is not discovered: it was given back")
	s.kubectlIn(clusterManifest("orchid"), "delete", "--timeout="+kubectlTimeout, "-f", "-")

	// A wait that is too short fails, and what was marked stays marked. The timeout is that of
	// the requests, too.
	s.kubectlIn(restingManifest("node-3"), "create", "-f", "-")
	require.Contains(s.t, s.refused("", "delete", "msm", "node-3", "--timeout=3s"), "timed out")
	require.NotEmpty(s.t, s.field(".metadata.deletionTimestamp", "msm", "node-3"))
	s.kubectl("annotate", "msm", "node-3", "cluster.x-k8s.io/paused-")
	s.kubectl("wait", "--for=delete", "msm/node-3", "--timeout="+kubectlTimeout)
}

func deleteAllDeletesManaged(s *space) {
	id := s.discovered()
	s.kubectlIn(clusterManifest("orchid")+"---"+machineManifest("node-1", "orchid")+"---"+machineManifest("node-2", "orchid"), "create", "-f", "-")
	s.kubectl("wait", "--for=condition=Ready", "msm/node-1", "msm/node-2", "--timeout="+kubectlTimeout)

	// kubectl deletes one by one, and so asks for the discovered machine's, too.
	o := s.run("", "delete", "msm", "--all", "--timeout="+kubectlTimeout)
	require.NotZero(s.t, o.code)
	require.Contains(s.t, o.stderr, id)
	require.Contains(s.t, o.stderr, "deleting the object releases nothing")
	s.kubectl("wait", "--for=delete", "msm/node-1", "msm/node-2", "--timeout="+kubectlTimeout)
	require.Equal(s.t, "metalstackmachine."+group+"/"+id+"\n", s.kubectl("get", "msm", "-o=name"), "it is still there")
	require.Empty(s.t, s.field(".metadata.deletionTimestamp", "msm", id))

	// Who wants to be spared the refusal can say what is meant.
	s.kubectlIn(restingManifest("node-3"), "create", "-f", "-")
	s.kubectl("annotate", "msm", "node-3", "cluster.x-k8s.io/paused-", "cluster.x-k8s.io/cluster-name-")
	s.kubectl("delete", "msm", "--field-selector=status.metal.managed=true", "--timeout="+kubectlTimeout)
	s.kubectl("delete", "msc", "--all", "--timeout="+kubectlTimeout)
	require.Equal(s.t, "metalstackmachine."+group+"/"+id+"\n", s.kubectl("get", "cluster-api", "-o=name"))

	s.kubectlIn(templateManifest("a")+"---"+templateManifest("b"), "create", "-f", "-")
	s.kubectl("delete", "msmt", "--all")
	require.Empty(s.t, s.kubectl("get", "msmt", "-o=name"))
}
