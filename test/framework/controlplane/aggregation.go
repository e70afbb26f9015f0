// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/base64"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// APIServices is the resource of APIServices.
var APIServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}

// Expose makes a Service that leads to a port of 127.0.0.1, for a server that
// no Pod stands for. What an APIService sends there arrives with the server
// name <name>.<namespace>.svc.
func (c *ControlPlane) Expose(t testing.TB, namespace, name string, port int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callDeadline)
	defer cancel()
	_, err := c.client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeExternalName, ExternalName: "localhost",
			Ports: []corev1.ServicePort{{Port: int32(port)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("service %s/%s: %v", namespace, name, err)
	}
}

// Aggregate registers a group-version that a Service serves on a port, with a
// certificate that caBundle (PEM) verifies. It does not wait until that is
// available.
func (c *ControlPlane) Aggregate(t testing.TB, version schema.GroupVersion, namespace, service string, port int, caBundle []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callDeadline)
	defer cancel()
	_, err := c.apiServices(t).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": APIServices.GroupVersion().String(), "kind": "APIService",
		"metadata": map[string]any{"name": version.Version + "." + version.Group},
		"spec": map[string]any{
			"group": version.Group, "version": version.Version,
			"groupPriorityMinimum": int64(1000), "versionPriority": int64(15),
			"caBundle": base64.StdEncoding.EncodeToString(caBundle),
			"service":  map[string]any{"namespace": namespace, "name": service, "port": int64(port)},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("APIService of %s: %v", version, err)
	}
}

// WaitAvailable waits until the condition Available of a group-version's
// APIService is as wanted.
func (c *ControlPlane) WaitAvailable(t testing.TB, version schema.GroupVersion, available bool) {
	t.Helper()
	want := string(metav1.ConditionFalse)
	if available {
		want = string(metav1.ConditionTrue)
	}
	name := version.Version + "." + version.Group
	client := c.apiServices(t)
	err := poll(t.Context(), startDeadline, func(ctx context.Context) error {
		service, err := client.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(service.Object, "status", "conditions")
		if err != nil {
			return err
		}
		for _, condition := range conditions {
			if fields, ok := condition.(map[string]any); ok && fields["type"] == "Available" && fields["status"] == want {
				return nil
			}
		}
		return fmt.Errorf("want Available=%s, got %v", want, conditions)
	})
	if err != nil {
		t.Fatalf("APIService %s: %v", name, err)
	}
}

func (c *ControlPlane) apiServices(t testing.TB) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(APIServices)
}
