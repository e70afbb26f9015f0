// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi"
)

const (
	namespace = "team-a"
	name      = "rose"
	service   = "web"
	// address is the claim of the address of the cluster's control plane.
	address = "rose-api"
	// actLimit is how long one act may take.
	actLimit = 10 * time.Minute
)

// play is what is shown.
type play struct {
	options
	*stage

	site    *capi.Site
	manager *capi.Management
	tenant  *capi.Tenant
	began   time.Time
	// workloadConfig is the kubeconfig file of the tenant's cluster.
	workloadConfig string
}

func (p *play) run() {
	p.began = time.Now()
	p.install()
	before := p.projectMetal()
	p.choose()
	p.order()
	p.serve()
	p.protect()
	p.scale()
	p.reboot()
	p.repair()
	if p.stay {
		p.section("Ctrl-C stops all of it")
		<-p.ctx.Done()
		return
	}
	p.remove(before)
}

// install is the platform team's part.
func (p *play) install() {
	p.section("A management cluster: kube-apiserver, etcd, controller manager; and a data centre of %d machines, %g times as fast as real hardware", p.machines, p.speed)
	p.site = capi.StartSite(p, simulator.Config{Speed: p.speed, DataCentre: simulator.DefaultDataCentre(p.machines)})
	p.showCommand("clusterctl init --infrastructure metal-stack")
	p.manager = capi.Start(p, capi.Options{Site: p.site})
	p.explain("Cluster API's managers, our server and our controller manager run, as their Deployments say, and with the rights of their service accounts.")
	p.kubectl("get", "providers", "-A")
	p.saveKubeconfig()

	p.section("A namespace for team a, which is bound to the team's project")
	p.showCommand("kubectl create namespace %s", namespace)
	p.showCommand("kubectl label namespace %s %s=%s", namespace, infrastructure.ProjectLabel, simulator.ProjectA)
	p.manager.Bind(p, namespace, simulator.ProjectA)
	p.kubectl("get", "msm", "-n", namespace)
}

// choose is how the tenant finds out what to write.
func (p *play) choose() {
	p.section("What there is to be had, with kubectl alone")
	p.kubectl("get", "metalstackpartitions", "-o", "wide")
	p.kubectl("get", "metalstacksizes")
	p.kubectl("get", "metalstackimages", "--field-selector", "status.newest=true")
	p.kubectl("get", "metalstacknetworks", "-n", namespace)
	p.explain("Three workers are wanted now. Could they be had?")
	p.kubectl("metal", "can-i-have", simulator.SmallSize, "--count=3", "-n", namespace)
	p.explain("An address that stays when the cluster is deleted:")
	file := filepath.Join(p.manager.Dir(), address+".yaml")
	manifest := fmt.Sprintf("apiVersion: %s\nkind: MetalStackIP\nmetadata: {name: %s, namespace: %s}\nspec: {networkID: %s}\n",
		v1alpha4.SchemeGroupVersion, address, namespace, simulator.InternetNetwork)
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		p.Fatal(err)
	}
	p.print(manifest)
	p.showCommand("kubectl create -f %s.yaml", address)
	p.output("create", "-f", file)
	p.kubectl("wait", "metalstackip", address, "-n", namespace, "--for=condition=Ready")
	p.wait()
}

// order is the tenant's part.
func (p *play) order() {
	p.section("A cluster: 1 firewall, 3 machines for the control plane, 3 workers")
	p.showCommand("export CONTROL_PLANE_IP=$(kubectl get metalstackip %s -n %s -o jsonpath='{.status.address}')", address, namespace)
	p.showCommand("clusterctl generate cluster %s --infrastructure metal-stack --target-namespace %s \\", name, namespace)
	p.showCommand("  --control-plane-machine-count 3 --worker-machine-count 3 --kubernetes-version %s | kubectl apply -f -", capi.KubernetesVersion)
	stop := p.printProgress()
	p.tenant = p.manager.Order(p, capi.Order{
		Namespace: namespace, Name: name, ControlPlane: 3, Workers: 3,
		// Ten minutes, the default, are too long for a demo.
		Variables: map[string]string{"UNHEALTHY_TIMEOUT": "10", "WORKER_REMEDIATION_TEMPLATE": capi.RemediationTemplate(name + "-md-0"),
			"CONTROL_PLANE_IP": p.output("get", "metalstackip", address, "-n", namespace, "-o", "jsonpath={.status.address}")},
	})
	p.tenant.AwaitMachines(p, actLimit, 3, 3)
	stop()
	p.showCluster()
	workload := p.manager.Clusterctl(p, "get", "kubeconfig", name, "-n", namespace)
	p.workloadConfig = filepath.Join(p.manager.Dir(), "test-"+name+".kubeconfig")
	if err := os.WriteFile(p.workloadConfig, []byte(workload), 0o600); err != nil {
		p.Fatal(err)
	}
	p.explain("The tenant's cluster itself, at the address that was claimed for it. metal-ccm in it gave the Nodes their provider IDs:")
	p.showCommand("clusterctl get kubeconfig %s -n %s > %[1]s.kubeconfig", name, namespace)
	p.kubectlInWorkload("get", "nodes", "-o", "custom-columns=NAME:.metadata.name,PROVIDERID:.spec.providerID,VERSION:.status.nodeInfo.kubeletVersion")
	p.wait()
}

// serve shows that a Service of the tenant's cluster gets an address.
func (p *play) serve() {
	p.section("A Service of type LoadBalancer in the tenant's cluster")
	p.explain("metal-ccm allocates its address in the project. It has no key of the metal-api, but a token that is good for this cluster's part of it:")
	p.kubectl("wait", "msc", name, "-n", namespace, "--for=condition=MetalAPIAccessReady")
	p.kubectl("get", "serviceaccounts,roles", "-n", namespace, "-l", "cluster.x-k8s.io/cluster-name="+name)
	p.explain("Within a minute, it makes labels of the machines' tags:")
	p.tenant.AwaitNodeLabels(p, actLimit)
	p.kubectlInWorkload("get", "nodes", "-L", "topology.kubernetes.io/zone", "-L", "machine.metal-stack.io/rack")
	p.kubectlInWorkload("create", "service", "loadbalancer", service, "--tcp=80:8080")
	p.tenant.Workload(p).AwaitServiceAddress(p, actLimit, service)
	p.kubectlInWorkload("get", "service", service)
	p.wait()
}

func (p *play) scale() {
	for _, workers := range []int32{5, 3} {
		p.section("%d workers", workers)
		p.showCommand("kubectl scale machinedeployment %s-md-0 -n %s --replicas %d", name, namespace, workers)
		stop := p.printProgress()
		p.tenant.Scale(p, workers)
		p.tenant.AwaitMachines(p, actLimit, 3, int(workers))
		stop()
		p.kubectl("get", "msm", "-n", namespace)
		p.wait()
	}
}

func (p *play) remove(before string) {
	p.section("The end of the cluster")
	p.showCommand("kubectl delete cluster %s -n %s", name, namespace)
	stop := p.printProgress()
	p.tenant.Delete(p, actLimit)
	stop()
	p.explain("The address is kept, for the next cluster, until its object is deleted:")
	p.kubectl("get", "metalstackip", address, "-n", namespace)
	p.kubectl("delete", "metalstackip", address, "-n", namespace)
	if after := p.projectMetal(); after != before {
		p.Fatalf("the project has metal that it did not have before.\nbefore: %s\nafter:  %s", before, after)
	}
	p.explain("The project in the metal-api is as it was before, and the Service's address is free: %s.", before)
}

// showCluster shows the cluster as its owner sees it.
func (p *play) showCluster() {
	p.showCommand("clusterctl describe cluster %s -n %s", name, namespace)
	p.print(p.manager.Clusterctl(p, "describe", "cluster", name, "-n", namespace))
	p.kubectl("get", "msc,msf,msm", "-n", namespace)
	p.wait()
}

// projectMetal describes what the project has in the metal-api.
func (p *play) projectMetal() string {
	inventory := p.site.Metal.Sim.Inventory()
	networks, addresses := 0, 0
	for _, n := range inventory.Networks {
		if n.Project == simulator.ProjectA {
			networks++
		}
	}
	for _, ip := range inventory.IPs {
		if ip.Project == simulator.ProjectA {
			addresses++
		}
	}
	return fmt.Sprintf("%d machines, %d networks, %d addresses", len(inventory.AllocatedIn(simulator.ProjectA)), networks, addresses)
}

func (p *play) saveKubeconfig() {
	data, err := os.ReadFile(p.manager.Kubeconfig(p.manager.Admin()))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(p.kubeconfig), 0o755)
	}
	if err == nil {
		err = os.WriteFile(p.kubeconfig, data, 0o600)
	}
	if err != nil {
		p.Fatal(err)
	}
	p.explain("In another terminal: export KUBECONFIG=%s PATH=$PWD/bin:$PATH", strings.TrimPrefix(p.kubeconfig, "./"))
}
