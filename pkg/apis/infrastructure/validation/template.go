// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

var templatePath = specPath.Child("template")

const (
	templateHelp     = "create another template and reference it instead"
	noProviderIDHelp = "must be empty in a template: two objects cannot have the same machine"
)

// ValidateMachineTemplate validates a new MetalStackMachineTemplate.
func ValidateMachineTemplate(template *infrastructure.MetalStackMachineTemplate) field.ErrorList {
	errs := validateTemplateMetadata(&template.ObjectMeta)
	return append(errs, validateMachineTemplateSpec(&template.Spec, template.Namespace)...)
}

// ValidateMachineTemplateUpdate validates a changed MetalStackMachineTemplate.
// In a dry run, its spec may change if Cluster API's topology controller asks:
// it finds out in this way whether a new template would be another one.
func ValidateMachineTemplateUpdate(template, old *infrastructure.MetalStackMachineTemplate, dryRun bool) field.ErrorList {
	errs := validateMetadataUpdate(&template.ObjectMeta, &old.ObjectMeta)
	if !changed(&template.Spec, &old.Spec) {
		return errs
	}
	errs = append(errs, validateMachineTemplateSpec(&template.Spec, template.Namespace)...)
	if !isTopologyDryRun(&template.ObjectMeta, dryRun) {
		errs = append(errs, field.Forbidden(specPath, "a template cannot be changed: "+templateHelp))
	}
	return errs
}

// ValidateMachineTemplateStatusUpdate validates a changed status of a
// MetalStackMachineTemplate.
func ValidateMachineTemplateStatusUpdate(template, old *infrastructure.MetalStackMachineTemplate) field.ErrorList {
	errs := validateMetadataUpdate(&template.ObjectMeta, &old.ObjectMeta)
	for name, quantity := range template.Status.Capacity {
		path := statusPath.Child("capacity").Key(string(name))
		for _, msg := range validation.IsQualifiedName(string(name)) {
			errs = append(errs, field.Invalid(path, string(name), msg))
		}
		if quantity.Cmp(resource.Quantity{}) < 0 {
			errs = append(errs, field.Invalid(path, quantity.String(), "must not be negative"))
		}
	}
	return errs
}

func validateMachineTemplateSpec(spec *infrastructure.MetalStackMachineTemplateSpec, namespace string) field.ErrorList {
	errs := validateMetadataOfTemplate(&spec.Template.ObjectMeta, templatePath.Child("metadata"))
	path := templatePath.Child("spec")
	errs = append(errs, validateMachineSpec(&spec.Template.Spec, namespace, path)...)
	if spec.Template.Spec.ProviderID != "" {
		errs = append(errs, field.Forbidden(path.Child("providerID"), noProviderIDHelp))
	}
	return errs
}

// ValidateClusterTemplate validates a new MetalStackClusterTemplate. What a
// cluster needs may be missing: a ClusterClass patches it in.
func ValidateClusterTemplate(template *infrastructure.MetalStackClusterTemplate) field.ErrorList {
	errs := validateTemplateMetadata(&template.ObjectMeta)
	return append(errs, validateClusterTemplateSpec(&template.Spec, template.Namespace)...)
}

// ValidateClusterTemplateUpdate validates a changed MetalStackClusterTemplate;
// see ValidateMachineTemplateUpdate.
func ValidateClusterTemplateUpdate(template, old *infrastructure.MetalStackClusterTemplate, dryRun bool) field.ErrorList {
	errs := validateMetadataUpdate(&template.ObjectMeta, &old.ObjectMeta)
	if !changed(&template.Spec, &old.Spec) {
		return errs
	}
	errs = append(errs, validateClusterTemplateSpec(&template.Spec, template.Namespace)...)
	if !isTopologyDryRun(&template.ObjectMeta, dryRun) {
		errs = append(errs, field.Forbidden(specPath, "a template cannot be changed: "+templateHelp))
	}
	return errs
}

func validateClusterTemplateSpec(spec *infrastructure.MetalStackClusterTemplateSpec, namespace string) field.ErrorList {
	errs := validateMetadataOfTemplate(&spec.Template.ObjectMeta, templatePath.Child("metadata"))
	path := templatePath.Child("spec")
	errs = append(errs, validateClusterSpec(&spec.Template.Spec, namespace, path)...)
	errs = append(errs, validateOneNetwork(&spec.Template.Spec, path)...)
	if spec.Template.Spec.ClusterID != "" {
		errs = append(errs, field.Forbidden(path.Child("clusterID"), "must be empty in a template: two clusters cannot have the same id"))
	}
	if firewall := spec.Template.Spec.FirewallSpec; firewall != nil && firewall.ProviderID != "" {
		errs = append(errs, field.Forbidden(path.Child("firewallSpec", "providerID"), noProviderIDHelp))
	}
	return errs
}

func isTopologyDryRun(meta *metav1.ObjectMeta, dryRun bool) bool {
	_, asked := meta.Annotations[infrastructure.TopologyDryRunAnnotation]
	return asked && dryRun
}
