// SPDX-License-Identifier: Apache-2.0

package controller

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	// resourceSetSecretType is the type of Secrets that a ClusterResourceSet applies.
	resourceSetSecretType corev1.SecretType = "addons.cluster.x-k8s.io/resource-set"
	// metalCCMKey is the key of the manifest in such a Secret.
	metalCCMKey = "metal-ccm.yaml"
	// metalCCMSecret is the Secret in the workload cluster that metal-ccm is configured with.
	metalCCMSecret = "metal-ccm"
)

// metalCCMManifest is the manifest of the Secret in the workload cluster that has what
// metal-ccm reads. Equal arguments give equal bytes.
func metalCCMManifest(inputs metalCCMInputs, token, authority string) ([]byte, error) {
	return yaml.Marshal(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: metalCCMSecret},
		Type:       corev1.SecretTypeOpaque,
		StringData: map[string]string{
			"url":                      inputs.url,
			"token":                    token,
			"ca.crt":                   authority,
			"project":                  inputs.project,
			"partition":                inputs.partition,
			"cluster":                  inputs.clusterID,
			"default-external-network": inputs.externalNetwork,
			"additional-networks":      inputs.networks,
		},
	})
}
