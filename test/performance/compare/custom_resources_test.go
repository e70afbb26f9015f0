// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

//go:embed testdata/customresourcedefinition.yaml
var definition []byte

// customVersion is the group-version of the custom resources.
var customVersion = schema.GroupVersion{Group: "compare.example.org", Version: v1alpha4.SchemeGroupVersion.Version}

const resource = "metalstackmachines"

// putsAtOnce is how many objects one transaction of etcd's writes.
const putsAtOnce = 100

// define makes the kind of the custom resources.
func define(t testing.TB, plane *controlplane.ControlPlane) {
	t.Helper()
	crd := &unstructured.Unstructured{}
	require.NoError(t, yaml.UnmarshalStrict(definition, &crd.Object))
	client, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	_, err = client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).
		Create(t.Context(), crd, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	require.NoError(t, err)
	framework.EventuallyRetrying(t, readyLimit, func(ctx context.Context) error {
		_, err := client.Resource(customVersion.WithResource(resource)).List(ctx, metav1.ListOptions{})
		return err
	})
}

// seed writes custom resources into etcd, as the kube-apiserver stores them. They
// have the content of the items of a list of ours.
func seed(ctx context.Context, plane *controlplane.ControlPlane, items []map[string]any) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{plane.EtcdURL()}})
	if err != nil {
		return err
	}
	defer client.Close()
	var puts []clientv3.Op
	for i, item := range items {
		key, value, err := custom(item)
		if err != nil {
			return err
		}
		puts = append(puts, clientv3.OpPut(key, value))
		if len(puts) == putsAtOnce || i == len(items)-1 {
			if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
				return err
			}
			puts = nil
		}
	}
	return nil
}

// custom is what the kube-apiserver stores of a custom resource with the content
// of an object of ours.
func custom(item map[string]any) (key, value string, err error) {
	object := (&unstructured.Unstructured{Object: item}).DeepCopy()
	object.SetAPIVersion(customVersion.String())
	object.SetKind("MetalStackMachine")
	object.SetUID("")
	unstructured.RemoveNestedField(object.Object, "metadata", "resourceVersion")
	if err := unstructured.SetNestedField(object.Object, uuid.NewString(), "metadata", "uid"); err != nil {
		return "", "", err
	}
	managed := object.GetManagedFields()
	for i := range managed {
		managed[i].APIVersion = customVersion.String()
	}
	object.SetManagedFields(managed)
	data, err := json.Marshal(object.Object)
	key = fmt.Sprintf("/registry/%s/%s/%s/%s", customVersion.Group, resource, object.GetNamespace(), object.GetName())
	return key, string(data), err
}

// requireSameContent requires that the custom resources have the fields that our
// objects have: a field that their schema does not have is lost.
func requireSameContent(t testing.TB, ours, theirs map[string]any) {
	t.Helper()
	for _, field := range []string{"spec", "status"} {
		require.Equal(t, ours[field], theirs[field], "%s has fields that testdata/customresourcedefinition.yaml does not have", field)
	}
}
