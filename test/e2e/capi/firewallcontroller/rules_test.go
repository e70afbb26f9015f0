// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

// firewallOfTest is in a private network, the internet and an underlay.
func firewallOfTest(change func(*Firewall)) *Firewall {
	f := &Firewall{ObjectMeta: metav1.ObjectMeta{Name: "fw"}}
	f.Spec.Interval = "10s"
	network := func(id, kind string, vrf int64, prefix, ip string) Network {
		return Network{
			ASN: ptr[int64](4200000001), NetworkID: &id, NetworkType: &kind, Vrf: &vrf, Nat: ptr(kind == external),
			Prefixes: []string{prefix}, IPs: []string{ip},
		}
	}
	f.Status.Networks = []Network{
		network("net-a", privatePrimaryUnshared, 20, "10.0.0.0/22", "10.0.0.1"),
		network("internet", external, 104009, "203.0.113.0/24", "203.0.113.10"),
		network("underlay", underlay, 0, "10.1.0.0/24", "10.1.0.1"),
	}
	change(f)
	return f
}

func policy(name string, change func(*PolicySpec)) *Policy {
	p := &Policy{ObjectMeta: metav1.ObjectMeta{Namespace: WorkloadNamespace, Name: name}}
	change(&p.Spec)
	return p
}

func service(change func(*corev1.Service)) corev1.Service {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.20"}}
	change(&s)
	return s
}

func TestRender_MakesRulesOf(t *testing.T) {
	t.Parallel()
	to := func(cidrs ...string) (list []IPBlock) {
		for _, cidr := range cidrs {
			list = append(list, IPBlock{CIDR: cidr})
		}
		return list
	}
	tcp := []Port{{Port: 443}}
	for name, c := range map[string]struct {
		firewall func(*Firewall)
		policies []*Policy
		services []corev1.Service
		rules    []string
	}{
		"nothing": {},
		"a policy": {
			policies: []*Policy{policy("p", func(s *PolicySpec) {
				s.Egress = []PolicyRule{{Ports: []Port{{Port: 443}, {Port: 1000, EndPort: ptr[int32](2000)}, {Port: 53, Protocol: ptr(corev1.ProtocolUDP)}}, To: to("1.1.1.0/24")}}
				s.Ingress = []IngressRule{{Ports: tcp, From: []IPBlock{{CIDR: "0.0.0.0/0", Except: []string{"1.0.0.0/8"}}}}}
			})},
			rules: []string{
				"policy p: allow from 0.0.0.0/0 but 1.0.0.0/8 to tcp ports 443", "policy p: allow to 1.1.1.0/24 tcp ports 443, 1000-2000", "policy p: allow to 1.1.1.0/24 udp ports 53",
			},
		},
		"a policy for a name": {
			policies: []*Policy{policy("p", func(s *PolicySpec) {
				s.Egress = []PolicyRule{{Ports: tcp, ToFQDNs: []FQDN{{MatchName: "example.org"}, {MatchPattern: "*.example.org"}}}}
			})},
			rules: []string{"policy p: allow to name *.example.org tcp ports 443", "policy p: allow to name example.org tcp ports 443"},
		},
		"no policy without ports or destinations": {
			policies: []*Policy{policy("p", func(s *PolicySpec) {
				s.Egress = []PolicyRule{{To: to("1.1.1.0/24")}, {Ports: tcp}}
				s.Ingress = []IngressRule{{From: to("1.1.1.0/24")}}
			})},
		},
		"no invalid policy": {
			policies: []*Policy{policy("p", func(s *PolicySpec) {
				s.Egress = []PolicyRule{{Ports: tcp, To: to("1.1.1.0/24")}, {Ports: []Port{{Port: 70000}}, To: to("1.1.1.0/24")}}
			})},
		},
		"Services": {
			services: []corev1.Service{
				service(func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"1.0.0.0/8"} }),
				service(func(s *corev1.Service) { s.Name, s.Spec.Type = "inside", corev1.ServiceTypeClusterIP }),
				service(func(s *corev1.Service) { s.Name, s.Status.LoadBalancer.Ingress = "without-address", nil }),
			},
			rules: []string{"service default/web: allow from 1.0.0.0/8 to 203.0.113.20 tcp ports 80"},
		},
		"Services with allowed addresses": {
			firewall: func(f *Firewall) { f.Spec.AllowedNetworks.Ingress = []string{"203.0.113.16/28"} },
			services: []corev1.Service{
				service(func(*corev1.Service) {}),
				service(func(s *corev1.Service) {
					s.Name, s.Status.LoadBalancer.Ingress = "other", []corev1.LoadBalancerIngress{{IP: "203.0.113.99"}}
				}),
			},
			rules: []string{"service default/web: allow from anywhere to 203.0.113.20 tcp ports 80"},
		},
		"limits and source addresses": {
			firewall: func(f *Firewall) {
				f.Spec.RateLimits = []RateLimit{{"internet", 10}, {"underlay", 10}, {"unknown", 10}}
				f.Spec.EgressRules = []EgressRule{{"internet", []string{"203.0.113.30", "203.0.113.31"}}, {"net-a", []string{"10.0.0.9"}}}
				f.Spec.InternalPrefixes = []string{"10.0.0.0/8"}
			},
			rules: []string{"count as internal: 10.0.0.0/8", "limit internet: 10 MiB/s", "snat internet: from 10.0.0.0/22 as 203.0.113.30, 203.0.113.31"},
		},
		"logged connections": {
			firewall: func(f *Firewall) { f.Spec.LogAcceptedConnections = true },
			services: []corev1.Service{service(func(*corev1.Service) {})},
			rules:    []string{"service default/web: allow from anywhere to 203.0.113.20 tcp ports 80, logged"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.firewall == nil {
				c.firewall = func(*Firewall) {}
			}
			rules, err := render(firewallOfTest(c.firewall), c.policies, c.services)
			require.NoError(t, err)
			assert.Equal(t, c.rules, rules)
		})
	}
}

// TestRender_FailsAsAWhole: one thing that cannot be done keeps all others from being done.
func TestRender_FailsAsAWhole(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Firewall){
		"no private network": func(f *Firewall) { f.Status.Networks = f.Status.Networks[1:] },
		"private network with IPv6": func(f *Firewall) {
			f.Status.Networks[0].Prefixes = append(f.Status.Networks[0].Prefixes, "2001:db8::/64")
			f.Spec.EgressRules = []EgressRule{{"internet", []string{"203.0.113.30"}}}
		},
		"source addresses of no network":  func(f *Firewall) { f.Spec.EgressRules = []EgressRule{{"other", []string{"203.0.113.30"}}} },
		"no source address":               func(f *Firewall) { f.Spec.EgressRules = []EgressRule{{"internet", nil}} },
		"source address of other network": func(f *Firewall) { f.Spec.EgressRules = []EgressRule{{"internet", []string{"198.51.100.1"}}} },
		"invalid allowed network":         func(f *Firewall) { f.Spec.AllowedNetworks.Ingress = []string{"all"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := render(firewallOfTest(change), nil, []corev1.Service{service(func(*corev1.Service) {})})
			require.Error(t, err)
		})
	}
}

func TestDivide_IgnoresPoliciesOutsideOfAllowedNetworks(t *testing.T) {
	t.Parallel()
	out := policy("out", func(s *PolicySpec) { s.Egress = []PolicyRule{{To: []IPBlock{{CIDR: "1.1.1.0/24"}}}} })
	in := policy("in", func(s *PolicySpec) { s.Ingress = []IngressRule{{From: []IPBlock{{CIDR: "2.2.2.0/24"}}}} })
	for name, c := range map[string]struct {
		allowed        AllowedNetworks
		valid, ignored []*Policy
	}{
		"all networks":              {AllowedNetworks{}, []*Policy{out, in}, nil},
		"these":                     {AllowedNetworks{Egress: []string{"1.0.0.0/8"}, Ingress: []string{"2.2.2.0/24"}}, []*Policy{out, in}, nil},
		"smaller ones":              {AllowedNetworks{Egress: []string{"1.1.1.0/25"}, Ingress: []string{"2.2.2.0/24"}}, []*Policy{in}, []*Policy{out}},
		"an empty list allows none": {AllowedNetworks{Egress: []string{"1.0.0.0/8"}}, []*Policy{out}, []*Policy{in}},
	} {
		valid, ignored, err := divide([]*Policy{out, in}, c.allowed)
		require.NoError(t, err, name)
		assert.Equal(t, c.valid, valid, name)
		assert.Equal(t, c.ignored, ignored, name)
	}
}
