// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// database is a Pod that has a volume.
const database = "database"

// worker is one of the workers, with its machine.
func (p *play) worker(i int) (*clusterv1.Machine, *v1alpha4.MetalStackMachine) {
	workers, err := p.tenant.Machines(p.ctx, false)
	if err != nil || len(workers) <= i {
		p.Fatal("no such worker: ", err)
	}
	return &workers[i], p.hardwareOf(&workers[i])
}

func (p *play) hardwareOf(machine *clusterv1.Machine) *v1alpha4.MetalStackMachine {
	hardware := &v1alpha4.MetalStackMachine{}
	if err := p.tenant.Client.Get(p.ctx, client.ObjectKey{Namespace: namespace, Name: machine.Spec.InfrastructureRef.Name}, hardware); err != nil {
		p.Fatal(err)
	}
	return hardware
}

// reboot shows that a worker that hangs is fenced and rebooted, and is what it was.
func (p *play) reboot() {
	worker, hardware := p.worker(0)
	metal, workload, node := hardware.Status.Metal, p.tenant.Workload(p), worker.Status.NodeRef.Name
	p.section("The server of worker %s hangs", worker.Name)
	p.explain("It has power, and does not answer. Its Pod and the volume of it cannot move, as nothing says that they have ended:")
	workload.Occupy(p, node, database)
	p.kubectlInWorkload("get", "pods,volumeattachments", "-o", "custom-columns=KIND:.kind,NAME:.metadata.name,NODE:.spec.nodeName")
	if err := p.site.Metal.Sim.Hang(metal.MachineID); err != nil {
		p.Fatal(err)
	}
	p.kubectl("metal", "power", "status", hardware.Name, "-n", namespace)
	p.explain("The MachineHealthCheck gives it 10 s, and then asks for a reboot, not for another machine: off, the Node fenced, on again.")
	stop := p.printProgress()
	framework.Eventually(p, actLimit, func(ctx context.Context) error {
		if err := workload.Vacant(ctx, database); err != nil {
			return err
		}
		return p.tenant.CheckHealthy(ctx, worker, workload)
	})
	stop()
	if now := p.hardwareOf(worker).Status.Metal; now.MachineID != metal.MachineID || now.AllocationUUID != metal.AllocationUUID {
		p.Fatalf("%s had the machine %s, and has %s", hardware.Name, metal.MachineID, now.MachineID)
	}
	p.explain("It is the same server, with its name, its disk and its addresses, and the Pod has left it:")
	p.kubectl("metal", "log", hardware.Name, "-n", namespace)
	p.kubectl("get", "msm", "-n", namespace)
	p.kubectlInWorkload("get", "nodes")
	p.wait()
}

// repair shows that a machine that a reboot does not help is replaced.
func (p *play) repair() {
	victim, hardware := p.worker(1)
	p.section("The server of worker %s crashes", victim.Name)
	p.explain("Kubernetes gets no event: the metal-api has the crash, and so the next read shows it.")
	if err := p.site.Metal.Sim.Crash(hardware.Status.Metal.MachineID); err != nil {
		p.Fatal(err)
	}
	p.kubectl("get", "msm", "-n", namespace, hardware.Name)
	framework.Eventually(p, actLimit, func(context.Context) error {
		issues := meta.FindStatusCondition(p.hardwareOf(victim).Status.Conditions, infrastructure.ConditionMetalIssues)
		if issues == nil || !strings.Contains(issues.Message, infrastructure.ReasonCrashLoop) {
			return fmt.Errorf("%s is in no crash loop: %+v", hardware.Name, issues)
		}
		return nil
	})
	p.kubectl("metal", "issues", "-n", namespace)
	p.explain("A server that crashes over and over is not rebooted: its Machine is replaced.")
	stop := p.printProgress()
	framework.Eventually(p, actLimit, func(ctx context.Context) error {
		err := p.tenant.Client.Get(ctx, client.ObjectKeyFromObject(victim), &clusterv1.Machine{})
		if client.IgnoreNotFound(err) == nil && err != nil {
			return nil
		}
		return fmt.Errorf("machine %s is still there (%v)", victim.Name, err)
	})
	p.tenant.AwaitMachines(p, actLimit, 3, 3)
	stop()
	p.showCluster()
}
