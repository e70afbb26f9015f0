// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func waitForConditionFieldAndDeletion(s *space) {
	s.kubectlIn(clusterManifest("orchid")+"---"+machineManifest("node-1", "orchid"), "create", "-f", "-")
	s.kubectl("wait", "--for=condition=Ready", "msc/orchid", "msm/node-1", "--timeout="+kubectlTimeout)
	require.Equal(s.t, "true", s.field(".status.ready", "msm", "node-1"))
	s.kubectl("wait", "--for=jsonpath={.status.initialization.provisioned}=true", "msc/orchid", "msm/node-1", "--timeout="+kubectlTimeout)
	s.kubectl("wait", "--for=jsonpath={.status.metal.phase}=Phoned Home", "msm", "--all", "--timeout="+kubectlTimeout)

	id := s.field(".status.metal.machineID", "msm", "node-1")
	require.NoError(s.t, s.Metal.Sim.Crash(id))
	s.kubectl("wait", "--for=condition=Ready=false", "msm/node-1", "--timeout="+kubectlTimeout)
	require.Equal(s.t, "true", s.field(".status.initialization.provisioned", "msm", "node-1"), "what was never goes back")

	require.Contains(s.t, s.refused("", "wait", "--for=condition=Sunny", "msm/node-1", "--timeout=10ms"), "timed out")
	s.kubectl("delete", "msm", "node-1", "--wait=false")
	s.kubectl("wait", "--for=delete", "msm/node-1", "--timeout="+kubectlTimeout)
}

func describeShowsObjectAndEvents(s *space) {
	s.kubectlIn(restingManifest("node-1"), "create", "-f", "-")
	uid := s.field(".metadata.uid", "msm", "node-1")
	now := metav1.Now()
	_, err := s.Client().CoreV1().Events(s.name).Create(s.t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "node-1."},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: group + "/v1alpha4", Kind: "MetalStackMachine", Namespace: s.name, Name: "node-1", UID: types.UID(uid),
		},
		Type: corev1.EventTypeWarning, Reason: "OutOfMetal", Message: "no machine of this size waits",
		FirstTimestamp: now, LastTimestamp: now, Count: 1, Source: corev1.EventSource{Component: "a-test"},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)

	said := s.kubectl("describe", "msm", "node-1")
	for _, words := range []string{
		"Name: node-1", "Namespace: " + s.name, "Labels: color=red", "API Version: " + group + "/v1alpha4", "Kind: MetalStackMachine",
		"Machine Type: " + simulator.SmallSize, "Phase: Pending", "Reason: NotAllocated",
		"Events: Type Reason Age From Message", "Warning OutOfMetal", "a-test no machine of this size waits",
	} {
		require.Contains(s.t, strings.Join(strings.Fields(said), " "), words)
	}
	require.Contains(s.t, s.kubectl("describe", "msm"), "OutOfMetal", "all of them")
	require.Contains(s.t, s.kubectl("events", "--for=msm/node-1"), "OutOfMetal")
	s.kubectl("delete", "events", "--all")
	require.Contains(s.t, strings.Join(strings.Fields(s.kubectl("describe", "msm/node-1")), " "), "Events: <none>")
	require.Contains(s.t, s.refused("", "describe", "msm", "node-2"), "not found")
}

func getPrintsEveryFormat(s *space) {
	s.kubectlIn(clusterManifest("orchid")+"---"+machineManifest("node-1", "orchid"), "create", "-f", "-")
	s.kubectl("wait", "--for=condition=Ready", "msc/orchid", "msm/node-1", "--timeout="+kubectlTimeout)
	header := func(of string) string { return strings.Join(strings.Fields(strings.SplitN(of, "\n", 2)[0]), " ") }

	plain := s.kubectl("get", "msm")
	require.Equal(s.t, "NAME CLUSTER READY PHASE LIVELINESS SIZE ADDRESS AGE", header(plain))
	require.Regexp(s.t, `(?m)^node-1 +orchid +True +Phoned Home +Alive +v1-small-x86 +10\.\d+\.\d+\.\d+ +(\d+[smh])+$`, plain)
	wide := s.kubectl("get", "msm", "-o=wide")
	require.Equal(s.t, "NAME CLUSTER READY PHASE LIVELINESS SIZE ADDRESS AGE PROVIDERID IMAGE PARTITION RACK ISSUES MANAGED", header(wide))
	require.Regexp(s.t, `metal://fra-01/\S+ +ubuntu-24\.04\.\d+ +fra-01 +fra-01-rack-\d\d +<none> +true\n$`, wide)
	require.Equal(s.t, "NAME CLUSTER READY ENDPOINT NETWORK PARTITION AGE", header(s.kubectl("get", "msc")))
	require.Equal(s.t, "NAMESPACE NAME CLUSTER READY PHASE LIVELINESS SIZE ADDRESS AGE COLOR LABELS",
		header(s.kubectl("get", "msm", "-A", "--show-labels", "-L=color")))
	require.NotContains(s.t, s.kubectl("get", "msm", "--no-headers"), "NAME")

	require.Equal(s.t, "metalstackmachine."+group+"/node-1\n", s.kubectl("get", "msm", "-o=name"))
	object := s.object("msm", "node-1")
	require.Equal(s.t, "MetalStackMachine", object["kind"])
	require.Equal(s.t, group+"/v1alpha4", object["apiVersion"], "the preferred version")
	require.NotContains(s.t, s.kubectl("get", "msm,msc", "-o=json"), "null", "what is empty is left out")
	list := s.object("msm")
	require.Equal(s.t, "List", list["kind"])
	require.Len(s.t, list["items"], 1)
	require.Contains(s.t, s.kubectl("get", "msm", "node-1", "-o=yaml"), "\n    phase: Phoned Home\n")
	require.Equal(s.t, "node-1 Phoned Home", s.kubectl("get", "msm", "-o=jsonpath={range .items[*]}{.metadata.name} {.status.metal.phase}{end}"))
	require.Equal(s.t, "WHO WHAT\nnode-1 Phoned Home", strings.Join(compact(s.kubectl("get", "msm", "-o=custom-columns=WHO:.metadata.name,WHAT:.status.metal.phase")), "\n"))
	require.Equal(s.t, "node-1", s.kubectl("get", "msm", `-o=go-template={{range .items}}{{.metadata.name}}{{end}}`))
	require.Equal(s.t, "orchid", s.kubectl("get", "msm", "node-1", `-o=template={{index .metadata.labels "cluster.x-k8s.io/cluster-name"}}`))

	// What is written out can be put in again, if nothing else has changed it meanwhile.
	var o outcome
	s.eventually(func() bool {
		o = s.run(s.kubectl("get", "msm", "node-1", "-o=yaml"), "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
		return !strings.Contains(o.stderr, "the object has been modified")
	})
	require.Zero(s.t, o.code, o.stderr)
	for _, subresource := range []string{"status"} {
		require.Contains(s.t, s.kubectl("get", "msm", "node-1", "--subresource="+subresource, "-o=yaml"), "Phoned Home")
	}
}

// compact returns the lines, with one space where several are.
func compact(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

func getSelectsSortsAndPages(s *space) {
	var manifests []string
	for i, color := range []string{"red", "green", "red", "blue", "green"} {
		manifests = append(manifests, strings.Replace(restingManifest(fmt.Sprintf("node-%d", i)), "color: red", "color: "+color, 1))
	}
	s.kubectlIn(strings.Join(manifests, "---"), "create", "-f", "-")
	names := func(args ...string) string {
		s.t.Helper()
		var names []string
		for line := range strings.Lines(s.kubectl(append([]string{"get", "msm", "-o=custom-columns=:.metadata.name", "--no-headers"}, args...)...)) {
			names = append(names, strings.TrimPrefix(strings.TrimSpace(line), "node-"))
		}
		return strings.Join(names, " ")
	}
	require.Equal(s.t, "0 1 2 3 4", names())
	require.Equal(s.t, "0 2", names("-l=color=red"))
	require.Equal(s.t, "1 3 4", names("-l=color in (green, blue)"))
	require.Equal(s.t, "1 3 4", names("-l=color!=red"))
	require.Equal(s.t, "", names("-l=!color"))
	require.Equal(s.t, "3", names("--field-selector=metadata.name=node-3"))
	require.Equal(s.t, "1 2 3 4", names("--field-selector=metadata.name!=node-0,metadata.namespace="+s.name))
	require.Equal(s.t, "0 1 2 3 4", names("--field-selector=status.metal.phase=Pending,status.ready=false"))
	require.Equal(s.t, "2", names("--field-selector=metadata.name=node-2", "-l=color=red"))
	said := s.refused("", "get", "msm", "--field-selector=spec.color=red")
	require.Contains(s.t, said, "spec.color")
	require.Contains(s.t, said, "spec.providerID", "what can be selected by")

	require.Equal(s.t, "3 1 4 0 2", names("--sort-by=.metadata.labels.color"))
	table := compact(s.kubectl("get", "msm", "--sort-by={.metadata.labels.color}", "-L=color", "--no-headers"))
	require.Len(s.t, table, 5)
	require.True(s.t, strings.HasPrefix(table[0], "node-3 "), "a table is sorted, too: %v", table)
	require.Equal(s.t, "0 1 2 3 4", names("--chunk-size=2"))
	require.Len(s.t, compact(s.kubectl("get", "msm", "--chunk-size=2", "--no-headers")), 5)
	require.Equal(s.t, "0 4", names("node-0", "node-4"))
	require.Contains(s.t, s.refused("", "get", "msm", "node-0", "node-9"), `"node-9" not found`)
	require.Contains(s.t, s.run("", "get", "msc").stderr, "No resources found in "+s.name)
}

func getWatches(s *space) {
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	cmd := s.KubectlCommand(ctx, s.Admin(), "--namespace="+s.name, "get", "msmt", "--watch", "--output-watch-events", "-L=color", "--no-headers")
	pipe, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	s.kubectlIn(templateManifest("first"), "create", "-f", "-")
	require.NoError(s.t, cmd.Start())
	lines := bufio.NewScanner(pipe)
	next := func(want string) {
		s.t.Helper()
		require.True(s.t, lines.Scan(), "the watch ended: %v", lines.Err())
		require.Regexp(s.t, want, strings.Join(strings.Fields(lines.Text()), " "))
	}
	next(`^ADDED first v1-small-x86 ubuntu-24.04 <none> (\d+[smh])+$`)
	s.kubectlIn(templateManifest("second"), "create", "-f", "-")
	next(`^ADDED second `)
	s.kubectl("label", "msmt", "first", "color=red")
	next(`^MODIFIED first .* red$`)
	s.kubectl("delete", "msmt", "first")
	next(`^DELETED first .* red$`)
	cancel()
	_ = cmd.Wait() // it was ended
}

func versionsShowSameObject(s *space) {
	s.kubectlIn(strings.Replace(restingManifest("node-1"), "v1alpha4", "v1alpha3", 1), "create", "-f", "-")
	s.rest("node-1")
	old := s.object("metalstackmachines.v1alpha3."+group, "node-1")
	current := s.object("metalstackmachines.v1alpha4."+group, "node-1")
	require.Equal(s.t, group+"/v1alpha3", old["apiVersion"])
	require.Equal(s.t, group+"/v1alpha4", current["apiVersion"])
	delete(old, "apiVersion")
	delete(current, "apiVersion")
	require.Equal(s.t, current, old)
	s.kubectlIn(restingManifest("node-1"), "apply", "--server-side", "--force-conflicts", "-f", "-")
	require.Equal(s.t, "red", s.field(".metadata.labels.color", "metalstackmachines.v1alpha3."+group, "node-1"))
}

func apiResourcesShortNamesAndCategory(s *space) {
	lines := compact(s.kubectl("api-resources", "--api-group="+group, "--no-headers", "--sort-by=name"))
	require.Equal(s.t, []string{
		"metalstackclusters msc " + group + "/v1alpha4 true MetalStackCluster",
		"metalstackclustertemplates msct " + group + "/v1alpha4 true MetalStackClusterTemplate",
		"metalstackfirewalls msf " + group + "/v1alpha4 true MetalStackFirewall",
		"metalstackimages msimg " + group + "/v1alpha4 false MetalStackImage",
		"metalstackips msip " + group + "/v1alpha4 true MetalStackIP",
		"metalstackmachines msm " + group + "/v1alpha4 true MetalStackMachine",
		"metalstackmachinetemplates msmt " + group + "/v1alpha4 true MetalStackMachineTemplate",
		"metalstacknetworks msnet " + group + "/v1alpha4 true MetalStackNetwork",
		"metalstackpartitions mspart " + group + "/v1alpha4 false MetalStackPartition",
		"metalstackprojects msproj " + group + "/v1alpha4 true MetalStackProject",
		"metalstackremediations msr " + group + "/v1alpha4 true MetalStackRemediation",
		"metalstackremediationtemplates msrt " + group + "/v1alpha4 true MetalStackRemediationTemplate",
		"metalstacksizes mssize " + group + "/v1alpha4 false MetalStackSize",
	}, lines)
	wide := s.kubectl("api-resources", "--api-group="+group, "--no-headers", "-o=wide")
	require.Equal(s.t, 9, strings.Count(wide, "create,delete,deletecollection,get,list,patch,update,watch"), wide)
	require.Equal(s.t, 13, len(compact(s.kubectl("api-resources", "--categories=metal-stack", "--no-headers"))))
	require.Equal(s.t, 7, strings.Count(wide, "cluster-api"), wide)
	require.Equal(s.t, 7, len(compact(s.kubectl("api-resources", "--categories=cluster-api", "--no-headers"))))
	versions := s.kubectl("api-versions")
	require.Contains(s.t, versions, group+"/v1alpha3\n")
	require.Contains(s.t, versions, group+"/v1alpha4\n")

	s.kubectlIn(restingManifest("node-1")+"---"+templateManifest("small")+"---"+clusterManifest("orchid"), "create", "-f", "-")
	require.Equal(s.t, []string{
		"metalstackcluster." + group + "/orchid",
		"metalstackmachine." + group + "/node-1",
		"metalstackmachinetemplate." + group + "/small",
	}, strings.Fields(s.kubectl("get", "cluster-api", "-o=name")), "a category is all of its kinds")
	require.NotContains(s.t, s.kubectl("get", "all", "-o=name"), group, "but they are no workload")
	for _, name := range []string{"msm", "metalstackmachine", "metalstackmachines", "MetalStackMachine", "metalstackmachines." + group} {
		require.Contains(s.t, s.kubectl("get", name, "-o=name"), "/node-1", name)
	}
}

func completionOfNamesAndShortNames(s *space) {
	s.kubectlIn(restingManifest("node-1")+"---"+restingManifest("other")+"---"+templateManifest("small"), "create", "-f", "-")
	complete := func(args ...string) []string {
		s.t.Helper()
		var words []string
		// Not by kubectl's own flag, which would have to stand in the middle.
		ctx, cancel := context.WithTimeout(s.t.Context(), limit)
		defer cancel()
		cmd := s.KubectlCommand(ctx, s.Admin(), append([]string{"__complete", args[0], "--namespace=" + s.name}, args[1:]...)...)
		out, err := cmd.Output()
		require.NoError(s.t, err)
		for line := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			words = append(words, word)
		}
		require.NotEmpty(s.t, words)
		require.Equal(s.t, ":4", words[len(words)-1], "and no file names")
		return words[:len(words)-1]
	}
	require.Equal(s.t, []string{"node-1", "other"}, complete("get", "msm", ""))
	require.Equal(s.t, []string{"node-1"}, complete("describe", "msm", "no"))
	require.Equal(s.t, []string{"small"}, complete("delete", "metalstackmachinetemplates", ""))
	require.ElementsMatch(s.t, []string{
		"metalstackclusters." + group, "metalstackclustertemplates." + group, "metalstackfirewalls." + group, "metalstackimages." + group,
		"metalstackips." + group, "metalstackmachines." + group, "metalstackmachinetemplates." + group, "metalstacknetworks." + group,
		"metalstackpartitions." + group, "metalstackprojects." + group, "metalstackremediations." + group, "metalstackremediationtemplates." + group,
		"metalstacksizes." + group,
	}, complete("get", "metals"))
}
