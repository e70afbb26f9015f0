// SPDX-License-Identifier: Apache-2.0

// Package deploy_test holds artifacts/deploy to what its README.md says, with a
// real kube-apiserver.
package deploy_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// variants are the ways to install that README.md names.
var variants = map[string][]string{
	"base":         nil,
	"monitoring":   {"monitoring"},
	"cert-manager": {"cert-manager"},
	"both":         {"monitoring", "cert-manager"},
}

var renders sync.Map // func() []*unstructured.Unstructured by variant

// render is what a variant makes, made once.
func render(t *testing.T, plane *controlplane.ControlPlane, variant string) []*unstructured.Unstructured {
	t.Helper()
	once, _ := renders.LoadOrStore(variant, sync.OnceValue(func() []*unstructured.Unstructured {
		return cluster.Render(t, plane, cluster.Overlay(t, variants[variant]...))
	}))
	return once.(func() []*unstructured.Unstructured)()
}

// find returns the object of a kind and name, or fails.
func find(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() == kind && object.GetName() == name {
			return object
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

// deployments are those of both programs, by name.
func deployments(t *testing.T, objects []*unstructured.Unstructured) map[string]*appsv1.Deployment {
	t.Helper()
	found := map[string]*appsv1.Deployment{}
	for _, object := range objects {
		if object.GetKind() == "Deployment" {
			deployment := &appsv1.Deployment{}
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, deployment, true))
			found[object.GetName()] = deployment
		}
	}
	require.Len(t, found, 2)
	require.Contains(t, found, cluster.APIServer)
	require.Contains(t, found, cluster.Manager)
	return found
}

var preparing sync.Mutex

// prepare makes what an installation is applied to: its namespace, since a dry
// run makes none, and the kinds of others.
func prepare(t *testing.T, plane *controlplane.ControlPlane, objects []*unstructured.Unstructured) {
	t.Helper()
	// Two that apply what is not there yet do not get along.
	preparing.Lock()
	defer preparing.Unlock()
	cluster.DefineOthers(t, plane, objects)
	_, stderr, err := plane.Kubectl(t, plane.Admin(), "apply", "-f", cluster.Deploy()+"/namespace.yaml")
	require.NoError(t, err, stderr)
}

func TestVariants_RenderIntoOneNamespace(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	unnamespaced := []string{"Namespace", "ClusterRole", "ClusterRoleBinding"}
	// kustomize and clusterctl do not know that these have no namespace; the
	// kube-apiserver takes it off.
	ignored := []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
	for name := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := render(t, plane, name)
			for _, object := range objects {
				if slices.Contains(ignored, object.GetKind()) {
					continue
				}
				want := cluster.Namespace
				if slices.Contains(unnamespaced, object.GetKind()) {
					want = ""
				}
				assert.Equal(t, want, object.GetNamespace(), "%s %s", object.GetKind(), object.GetName())
				subjects, _, err := unstructured.NestedSlice(object.Object, "subjects")
				require.NoError(t, err)
				for _, subject := range subjects {
					account := subject.(map[string]any)
					if account["kind"] == rbacv1.GroupKind {
						continue
					}
					assert.Equal(t, cluster.Namespace, account["namespace"], "%s %s", object.GetKind(), object.GetName())
					find(t, objects, "ServiceAccount", account["name"].(string))
				}
			}
		})
	}
}

// TestAdmissionPolicies_KnowNoNamespace: overlays and clusterctl change the
// namespace of the accounts, and nothing in expressions.
func TestAdmissionPolicies_KnowNoNamespace(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	policies := 0
	for _, object := range render(t, plane, "base") {
		if object.GetKind() != "ValidatingAdmissionPolicy" {
			continue
		}
		policies++
		assert.NotContains(t, fmt.Sprint(object.Object["spec"]), cluster.Namespace, object.GetName())
		binding := find(t, render(t, plane, "base"), "ValidatingAdmissionPolicyBinding", object.GetName())
		actions, _, err := unstructured.NestedStringSlice(binding.Object, "spec", "validationActions")
		require.NoError(t, err)
		assert.Equal(t, []string{"Deny"}, actions)
	}
	assert.Equal(t, 5, policies)
}

func TestVariants_PassStrictValidation(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	for name, components := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overlay := cluster.Overlay(t, components...)
			objects := render(t, plane, name)
			prepare(t, plane, objects)
			stdout, stderr, err := plane.Kubectl(t, plane.Admin(), "apply", "-k", overlay, "--dry-run=server", "--validate=strict")
			require.NoError(t, err, stderr)
			assert.Equal(t, len(objects), strings.Count(stdout, "(server dry run)"))
			assert.Empty(t, stderr, "no warning")
		})
	}
}

func TestPods_SatisfyRestrictedLevel(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	for name := range variants {
		objects := render(t, plane, name)
		prepare(t, plane, objects)
		for program, deployment := range deployments(t, objects) {
			t.Run(name+"/"+program, func(t *testing.T) {
				t.Parallel()
				template := deployment.Spec.Template
				pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
				pod.Name = "restricted"
				admit := func() error {
					_, err := plane.Client().CoreV1().Pods(cluster.Namespace).Create(t.Context(), pod,
						metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
					return err
				}
				require.NoError(t, admit())
				yes := true
				pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = &yes
				require.ErrorContains(t, admit(), "restricted", "the level is enforced")
			})
		}
	}
}

func TestPods_ReferToExistingObjects(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	// The operator makes the first, cert-manager the second, the server the third.
	secrets := []string{"metal-api", "metalstack-apiserver-tls", "metalstack-apiserver-serving"}
	for name := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := render(t, plane, name)
			for program, deployment := range deployments(t, objects) {
				spec := deployment.Spec.Template.Spec
				require.Len(t, spec.Containers, 1)
				container := spec.Containers[0]
				find(t, objects, "ServiceAccount", spec.ServiceAccountName)
				find(t, objects, "PodDisruptionBudget", program)
				find(t, objects, "NetworkPolicy", program)
				assert.Contains(t, container.Image, "/"+program+":")
				assert.Equal(t, "manager", container.Name, "the name that clusterctl looks for")
				assert.NotEmpty(t, container.Resources.Requests)
				assert.NotEmpty(t, container.Resources.Limits.Memory())
				for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe} {
					require.NotNil(t, probe)
					assert.Equal(t, intstr.String, probe.HTTPGet.Port.Type)
					assert.True(t, hasPort(container, probe.HTTPGet.Port.StrVal), "%s: %s", program, probe.HTTPGet.Port.StrVal)
				}
				for _, env := range container.Env {
					if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
						assert.Contains(t, secrets, env.ValueFrom.SecretKeyRef.Name)
					}
				}
				for _, volume := range spec.Volumes {
					assert.Contains(t, secrets, volume.Secret.SecretName)
				}
			}
			for _, object := range objects {
				if object.GetKind() != "Service" {
					continue
				}
				service := &corev1.Service{}
				require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, service, true))
				program := service.Spec.Selector["app.kubernetes.io/name"]
				deployment := deployments(t, objects)[program]
				require.NotNil(t, deployment, "Service %s leads to %s", service.Name, program)
				for _, port := range service.Spec.Ports {
					assert.True(t, hasPort(deployment.Spec.Template.Spec.Containers[0], port.TargetPort.StrVal), "Service %s", service.Name)
				}
			}
		})
	}
}

func hasPort(container corev1.Container, name string) bool {
	return slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
}

func TestPrometheus_VerifiesServedCertificate(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	for name, secret := range map[string]string{"monitoring": "metalstack-apiserver-serving", "both": "metalstack-apiserver-tls"} {
		objects := render(t, plane, name)
		monitor := find(t, objects, "ServiceMonitor", cluster.APIServer)
		endpoints, _, err := unstructured.NestedSlice(monitor.Object, "spec", "endpoints")
		require.NoError(t, err)
		got, _, err := unstructured.NestedString(endpoints[0].(map[string]any), "tlsConfig", "ca", "secret", "name")
		require.NoError(t, err)
		assert.Equal(t, secret, got, name)
	}
}
