// SPDX-License-Identifier: Apache-2.0

package main

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// group is a group and version on the page.
type group struct {
	version schema.GroupVersion
	// models is the prefix of the names of its types in the OpenAPI.
	models string
	// sources is the folder of its types.
	sources  string
	note     string
	sections []section
}

// section is kinds that belong together.
type section struct {
	title, text string
	kinds       []kind
}

// kind is how a kind is served. A test compares it with the server's discovery.
type kind struct {
	name      string
	short     string
	cluster   bool // cluster-scoped, not namespaced
	verbs     string
	resources []subresource
	// body says which subresources the kind is the body of; it has no resource of its own then.
	body bool
}

// subresource is one of a kind's.
type subresource struct {
	name  string
	verbs string
	// kind is the one in the discovery.
	kind string
	// body and answer are kinds, or words; the kind if they are empty.
	body, answer string
}

const (
	allVerbs  = "create delete deletecollection get list patch update watch"
	readVerbs = "get list watch"
)

func status(kind string) subresource {
	return subresource{name: "status", verbs: "get patch update", kind: kind}
}

func allocation(kind string) subresource {
	return subresource{name: "allocation", verbs: "create delete", kind: "Allocation", answer: kind}
}

func operations() []subresource {
	return []subresource{
		{name: "power", verbs: "create get", kind: "MachinePower"},
		{name: "identify", verbs: "create", kind: "MachineIdentify"},
		{name: "consolepassword", verbs: "create", kind: "MachineConsolePassword"},
		{name: "log", verbs: "get", kind: "MachineLog"},
		{name: "reinstall", verbs: "create", kind: "MachineReinstall"},
		{name: "lock", verbs: "create delete get", kind: "MachineLock"},
	}
}

// with returns the subresources status and allocation of a kind, and others.
func with(kind string, others ...subresource) []subresource {
	return append([]subresource{status(kind), allocation(kind)}, others...)
}

// kubernetes are the types of Kubernetes that fields have, as a user writes them.
var kubernetes = map[string]string{
	"api.resource.Quantity":   "[quantity](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)",
	"apis.meta.v1.Condition":  "[condition](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/condition/)",
	"apis.meta.v1.Duration":   "duration, such as `1h30m`",
	"apis.meta.v1.ListMeta":   "[list metadata](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/list-meta/)",
	"apis.meta.v1.MicroTime":  "time, such as `2026-01-31T12:00:00.123456Z`",
	"apis.meta.v1.ObjectMeta": "[metadata](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/)",
	"apis.meta.v1.Time":       "time, such as `2026-01-31T12:00:00Z`",
}

// groups is the page's order.
var groups = []group{{
	version: v1alpha4.SchemeGroupVersion,
	models:  "io.x-k8s.cluster.infrastructure.v1alpha4.",
	sources: "pkg/apis/infrastructure/v1alpha4",
	note:    "`v1alpha4` is the preferred version. `v1alpha3` has the same kinds and the same fields, and is not repeated here; an object that was written in one of them can be read in the other.",
	sections: []section{
		{
			title: "Clusters, machines and firewalls",
			text:  "For each object of these kinds, metal is allocated.",
			kinds: []kind{
				{name: "MetalStackCluster", short: "msc", verbs: allVerbs, resources: with("MetalStackCluster", subresource{name: "metalapi", verbs: "create delete get update", kind: "MetalAPIOptions", body: "the metal-api's", answer: "the metal-api's"})},
				{name: "MetalStackMachine", short: "msm", verbs: allVerbs, resources: with("MetalStackMachine", operations()...)},
				{name: "MetalStackFirewall", short: "msf", verbs: allVerbs, resources: with("MetalStackFirewall", operations()...)},
			},
		}, {
			title: "Networks and addresses",
			text:  "An object that a user creates is a claim, for which a network or an address is allocated. All others are discovered, and read-only. [catalogue.md](catalogue.md) explains them.",
			kinds: []kind{
				{name: "MetalStackNetwork", short: "msnet", verbs: allVerbs, resources: with("MetalStackNetwork")},
				{name: "MetalStackIP", short: "msip", verbs: allVerbs, resources: with("MetalStackIP")},
			},
		}, {
			title: "Catalogue",
			text:  "What a spec can name. These kinds are read-only; [catalogue.md](catalogue.md) explains them.",
			kinds: []kind{
				{name: "MetalStackProject", short: "msproj", verbs: readVerbs},
				{name: "MetalStackPartition", short: "mspart", cluster: true, verbs: readVerbs},
				{name: "MetalStackSize", short: "mssize", cluster: true, verbs: readVerbs},
				{name: "MetalStackImage", short: "msimg", cluster: true, verbs: readVerbs},
			},
		}, {
			title: "Templates",
			text:  "Cluster API creates objects from them. Nothing is allocated for a template.",
			kinds: []kind{
				{name: "MetalStackClusterTemplate", short: "msct", verbs: allVerbs},
				{name: "MetalStackMachineTemplate", short: "msmt", verbs: allVerbs, resources: []subresource{status("MetalStackMachineTemplate")}},
			},
		}, {
			title: "Remediation",
			text:  "[remediation.md](remediation.md) says how a reboot goes.",
			kinds: []kind{
				{name: "MetalStackRemediation", short: "msr", verbs: allVerbs, resources: []subresource{status("MetalStackRemediation")}},
				{name: "MetalStackRemediationTemplate", short: "msrt", verbs: allVerbs},
			},
		}, {
			title: "Bodies of subresources",
			text:  "Requests and answers of subresources. They are not stored, and cannot be listed. [machine-operations.md](machine-operations.md) explains what happens after a request, and [kubectl metal](kubectl-metal.md) sends them.",
			kinds: []kind{
				{name: "Allocation", body: true},
				{name: "MachinePower", body: true},
				{name: "MachineIdentify", body: true},
				{name: "MachineConsolePassword", body: true},
				{name: "MachineLog", body: true},
				{name: "MachineReinstall", body: true},
				{name: "MachineLock", body: true},
				{name: "MetalAPIOptions", body: true},
			},
		},
	},
}, {
	version: firewallv2.SchemeGroupVersion,
	models:  "io.metal-stack.firewall.v2.",
	sources: "pkg/apis/firewall/v2",
	note:    "Read-only: what firewall-controllers read. [firewalls.md](firewalls.md) says what follows from which field of a MetalStackFirewall.",
	sections: []section{{
		title: "Firewalls of firewall-controllers",
		kinds: []kind{{name: "Firewall", short: "fw", verbs: readVerbs, resources: []subresource{{name: "status", verbs: "get", kind: "Firewall"}}}},
	}},
}}
