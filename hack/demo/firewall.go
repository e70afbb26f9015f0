// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

const policy = `apiVersion: metal-stack.io/v1
kind: ClusterwideNetworkPolicy
metadata: {name: mail, namespace: firewall}
spec:
  egress:
  - ports: [{port: 25, protocol: TCP}]
    to: [{cidr: 198.51.100.0/24}]
`

// protect shows that the firewall follows the tenant's cluster, and is replaced without loss.
func (p *play) protect() {
	p.section("A firewall that changes while it runs")
	p.explain("The firewall-controller on the firewall (played here) has read the Service, and opened its port:")
	firewall := p.tenant.AwaitFirewall(p, actLimit)
	p.awaitRule(firewall, "service default/"+service+":")
	p.kubectl("get", "msf", "-n", namespace, "-o", "wide")
	p.explain("A policy in the tenant's cluster opens another one:")
	file := filepath.Join(p.TempDir(), "mail.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		p.Fatal(err)
	}
	p.print(policy)
	p.showCommand("kubectl --kubeconfig %s.kubeconfig apply -f mail.yaml", name)
	p.print(p.output("--kubeconfig", p.workloadConfig, "apply", "-f", file))
	p.awaitRule(firewall, "policy mail:")
	p.kubectlInWorkload("get", "cwnp", "-n", "firewall")
	p.explain("What the firewall does now, with no other server:")
	p.print(strings.Join(firewall.State().Rules, "\n") + "\n")
	p.wait()

	p.section("Another firewall takes its place")
	p.explain("The new one takes the traffic over when its firewall-controller has connected, by the distances of their routes, and then the old one goes:")
	p.kubectl("annotate", "msf", "--all", "-n", namespace, infrastructure.ReplaceAnnotation+"=")
	stop := p.printProgress()
	replacement := p.tenant.AwaitOtherFirewall(p, actLimit, firewall)
	stop()
	p.awaitRule(replacement, "policy mail:")
	p.kubectl("get", "msf", "-n", namespace, "-o", "wide")
	p.explain("Its rules are the same:")
	p.print(strings.Join(replacement.State().Rules, "\n") + "\n")
	p.wait()
}

// awaitRule waits until the firewall has a rule that begins so.
func (p *play) awaitRule(firewall *capi.Firewall, begin string) {
	framework.Eventually(p, actLimit, func(context.Context) error {
		rules := firewall.State().Rules
		for _, rule := range rules {
			if strings.HasPrefix(rule, begin) {
				return nil
			}
		}
		return fmt.Errorf("no rule %q among %q; log:\n%s", begin, rules, firewall.Log())
	})
}
