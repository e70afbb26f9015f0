// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// refusedField is the cause that a 422 is expected to have.
type refusedField struct {
	kind, field string
	cause       metav1.CauseType
	message     string
}

// requireRefusedField checks an answer, and the condition of its object.
func requireRefusedField(t *testing.T, err error, name string, want refusedField, condition metav1.Condition) {
	t.Helper()
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	var status apierrors.APIStatus
	require.True(t, errors.As(err, &status))
	details := status.Status().Details
	require.NotNil(t, details)
	assert.Equal(t, infrastructure.GroupName, details.Group)
	assert.Equal(t, want.kind, details.Kind)
	assert.Equal(t, name, details.Name)
	require.Equal(t, []metav1.StatusCause{{Type: want.cause, Field: want.field, Message: want.message}}, details.Causes)
	assert.Contains(t, condition.Message, want.message[len(typeOf(want.cause)):], "the condition says the same")
	assert.NotContains(t, err.Error(), "the-secret-join-token")
}

// typeOf is how the message of a cause begins.
func typeOf(cause metav1.CauseType) string {
	if cause == metav1.CauseTypeForbidden {
		return "Forbidden: "
	}
	return ""
}

func refuse422(endpoint, message string) simulator.Fault {
	return simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: message, Times: 1}
}

func TestAllocateCluster_RefusalNamesField(t *testing.T) {
	t.Parallel()
	notFound := `network "nope" not found in project "` + simulator.ProjectA + `": must be a network of the project, a shared or a public one`
	for name, c := range map[string]struct {
		spec  func(*infrastructure.MetalStackClusterSpec)
		fault *simulator.Fault
		want  refusedField
	}{
		"no partition": {
			spec: func(s *infrastructure.MetalStackClusterSpec) { s.Partition = "" },
			want: refusedField{"MetalStackCluster", "spec.partition", metav1.CauseTypeFieldValueRequired, "Required value: must be the partition to allocate the private network in, unless spec.privateNetworkID is set"},
		},
		"no public network": {
			spec: func(s *infrastructure.MetalStackClusterSpec) { s.PublicNetworkID = "" },
			want: refusedField{"MetalStackCluster", "spec.publicNetworkID", metav1.CauseTypeFieldValueRequired, "Required value: must be the network to allocate the control plane's address in, unless spec.controlPlaneEndpoint.host is set"},
		},
		"unknown public network": {
			spec: func(s *infrastructure.MetalStackClusterSpec) { s.PublicNetworkID = "nope" },
			want: refusedField{"MetalStackCluster", "spec.publicNetworkID", metav1.CauseTypeFieldValueInvalid, `Invalid value: "nope": ` + notFound},
		},
		"unknown private network": {
			spec: func(s *infrastructure.MetalStackClusterSpec) { s.PrivateNetworkID = "nope" },
			want: refusedField{"MetalStackCluster", "spec.privateNetworkID", metav1.CauseTypeFieldValueInvalid, `Invalid value: "nope": ` + notFound},
		},
		"other project": {
			spec: func(s *infrastructure.MetalStackClusterSpec) { s.ProjectID = simulator.ProjectB },
			want: refusedField{"MetalStackCluster", "spec.projectID", metav1.CauseTypeFieldValueInvalid, `Invalid value: "` + simulator.ProjectB + `": must be project "` + simulator.ProjectA + `", which namespace "team-a" is bound to, or omitted`},
		},
		"partition that the metal-api does not have": {
			spec: func(s *infrastructure.MetalStackClusterSpec) { s.Partition = "nope" },
			want: refusedField{"MetalStackCluster", "spec.partition", metav1.CauseTypeFieldValueInvalid, `Invalid value: "nope": refused by the metal-api: NotFound no partition with id "nope" found`},
		},
		"quota": {
			fault: new(refuse422("ip-allocate", "project quota for machines reached max:1")),
			want:  refusedField{"MetalStackCluster", "spec", metav1.CauseTypeForbidden, "Forbidden: refused by the metal-api: project quota for machines reached max:1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.cluster("cluster", func(object *infrastructure.MetalStackCluster) {
				if c.spec != nil {
					c.spec(&object.Spec)
				}
			})
			if c.fault != nil {
				env.sim.Inject(*c.fault)
			}
			_, err := env.allocateCluster("cluster")
			condition := meta.FindStatusCondition(env.getCluster("cluster").Status.Conditions, infrastructure.ConditionAllocated)
			require.NotNil(t, condition)
			requireRefusedField(t, err, "cluster", c.want, *condition)
		})
	}
}

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOneKeyThatNoAnswerMayQuote you@example.org"

func TestAllocateMachine_RefusalNamesField(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec    func(*infrastructure.MetalStackMachineSpec)
		fault   *simulator.Fault
		cluster string
		want    refusedField
	}{
		"no partition": {
			spec: func(s *infrastructure.MetalStackMachineSpec) { s.Partition = "" },
			want: refusedField{"MetalStackMachine", "spec.partition", metav1.CauseTypeFieldValueRequired, "Required value: must be set unless the allocation names a cluster that has a partition"},
		},
		"no network": {
			want: refusedField{"MetalStackMachine", "spec.networks", metav1.CauseTypeFieldValueRequired, "Required value: must be set unless the allocation names a cluster that has a private network"},
		},
		"unknown network": {
			spec: func(s *infrastructure.MetalStackMachineSpec) {
				s.Networks = []string{simulator.InternetNetwork, "nope"}
			},
			want: refusedField{"MetalStackMachine", "spec.networks[1]", metav1.CauseTypeFieldValueInvalid, `Invalid value: "nope": network "nope" not found in project "` + simulator.ProjectA + `": must be a network of the project, a shared or a public one`},
		},
		"reserved tag": {
			spec:    func(s *infrastructure.MetalStackMachineSpec) { s.Tags = []string{"fine", uidTag("victim")} },
			cluster: "cluster",
			want:    refusedField{"MetalStackMachine", "spec.tags[1]", metav1.CauseTypeForbidden, `Forbidden: "` + uidTag("victim") + `" is reserved for ownership`},
		},
		"no provider id": {
			spec: func(s *infrastructure.MetalStackMachineSpec) {
				s.ProviderID = "metal://elsewhere/00000000-0000-4000-8000-0000000fffff"
			},
			cluster: "cluster",
			want:    refusedField{"MetalStackMachine", "spec.providerID", metav1.CauseTypeFieldValueInvalid, `Invalid value: "metal://elsewhere/00000000-0000-4000-8000-0000000fffff": must name the partition of the spec or the cluster, "` + simulator.DefaultPartition + `"`},
		},
		"unknown machine": {
			spec: func(s *infrastructure.MetalStackMachineSpec) {
				s.ProviderID = "metal:///00000000-0000-4000-8000-0000000fffff"
			},
			cluster: "cluster",
			want:    refusedField{"MetalStackMachine", "spec.providerID", metav1.CauseTypeFieldValueInvalid, `Invalid value: "metal:///00000000-0000-4000-8000-0000000fffff": machine 00000000-0000-4000-8000-0000000fffff not found in project "` + simulator.ProjectA + `", and not available to it: must be idle, or allocated in the project`},
		},
		"cluster that names no network": {
			cluster: "external",
			want:    refusedField{"Allocation", "clusterRef.name", metav1.CauseTypeFieldValueInvalid, `Invalid value: "external": cluster is managed externally and has no spec.privateNetworkID: set it to the network that its machines join`},
		},
		"image that the metal-api does not have": {
			spec:    func(s *infrastructure.MetalStackMachineSpec) { s.Image = "ubuntu-99.04" },
			cluster: "cluster",
			want:    refusedField{"MetalStackMachine", "spec.image", metav1.CauseTypeFieldValueInvalid, `Invalid value: "ubuntu-99.04": refused by the metal-api: NotFound no image for id:ubuntu-99.04 found:no image for os:ubuntu version:99.4.0 found`},
		},
		"SSH key that the metal-api refuses": {
			spec:    func(s *infrastructure.MetalStackMachineSpec) { s.SSHKeys = []string{sshKey} },
			fault:   new(refuse422(machineAllocate, "invalid public SSH key: error:ssh: no key found")),
			cluster: "cluster",
			want:    refusedField{"MetalStackMachine", "spec.sshKeys", metav1.CauseTypeFieldValueInvalid, "Invalid value: refused by the metal-api: invalid public SSH key: error:ssh: no key found"},
		},
		"network of the cluster that the metal-api refuses": {
			fault:   new(refuse422(machineAllocate, "unable to gather networks:no private network given")),
			cluster: "cluster",
			want:    refusedField{"Allocation", "clusterRef.name", metav1.CauseTypeFieldValueInvalid, `Invalid value: "cluster": refused by the metal-api: unable to gather networks:no private network given`},
		},
		"no machine available": {
			fault:   new(refuse422(machineAllocate, "no machine available")),
			cluster: "cluster",
			want:    refusedField{"MetalStackMachine", "spec", metav1.CauseTypeForbidden, "Forbidden: refused by the metal-api: no machine available"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			switch c.cluster {
			case "cluster":
				env.allocatedCluster("cluster")
			case "external":
				env.cluster("external", func(c *infrastructure.MetalStackCluster) {
					c.Annotations = map[string]string{infrastructure.ManagedByAnnotation: ""}
				})
			}
			env.machine("node", func(m *infrastructure.MetalStackMachine) {
				if c.spec != nil {
					c.spec(&m.Spec)
				}
			})
			if c.fault != nil {
				env.sim.Inject(*c.fault)
			}
			_, err := env.allocate(env.p, "node", c.cluster)
			requireRefusedField(t, err, "node", c.want, *allocatedCondition(t, env.getMachine("node")))
			assert.NotContains(t, err.Error(), sshKey)
		})
	}
}

func TestAllocateFirewall_RefusalNamesField(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.firewall("firewall")
	fault := refuse422("firewall-allocate", "given image is not usable for a firewall, features: machine")
	fault.Status = http.StatusBadRequest
	env.sim.Inject(fault)
	var err error
	env.whileClockAdvances(func() { _, err = env.p.AllocateFirewall(env.context(), teamA, "firewall", body("cluster")) })
	firewall, getErr := env.firewalls.Get(env.context(), teamA, "firewall")
	require.NoError(t, getErr)
	condition := meta.FindStatusCondition(firewall.Status.Conditions, infrastructure.ConditionAllocated)
	require.NotNil(t, condition)
	requireRefusedField(t, err, "firewall", refusedField{
		"MetalStackFirewall", "spec.image", metav1.CauseTypeFieldValueInvalid,
		`Invalid value: "` + simulator.FirewallImage + `": refused by the metal-api: given image is not usable for a firewall, features: machine`,
	}, *condition)
}

func TestRelease_RefusalIsAboutTheAllocation(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	m := env.allocatedMachine("node")
	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "x"))
	_, err := env.release(env.p, "node")
	requireRefusedField(t, err, "node", refusedField{
		"MetalStackMachine", "status.allocation", metav1.CauseTypeForbidden, "Forbidden: refused by the metal-api: machine is locked",
	}, *allocatedCondition(t, env.getMachine("node")))
}
