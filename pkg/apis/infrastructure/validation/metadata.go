// SPDX-License-Identifier: Apache-2.0

package validation

import (
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

var (
	metadataPath = field.NewPath("metadata")
	specPath     = field.NewPath("spec")
	statusPath   = field.NewPath("status")
)

// validateMetadata validates the metadata of an object whose name becomes a
// hostname, and the value of a tag or label.
func validateMetadata(meta *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMeta(meta, true, nameIsLabelValue, metadataPath)
}

// nameIsLabelValue takes DNS subdomains that are short enough for the value of a
// label. Cluster API makes the names of a cluster's objects from the cluster's,
// which may have dots; hostnames get dashes for them.
func nameIsLabelValue(name string, prefix bool) []string {
	if len(name) > validation.LabelValueMaxLength {
		return []string{validation.MaxLenError(validation.LabelValueMaxLength)}
	}
	return apivalidation.NameIsDNSSubdomain(name, prefix)
}

// validateTemplateMetadata validates the metadata of a template, whose name
// never leaves Kubernetes.
func validateTemplateMetadata(meta *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMeta(meta, true, apivalidation.NameIsDNSSubdomain, metadataPath)
}

func validateMetadataUpdate(meta, old *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMetaUpdate(meta, old, metadataPath)
}

// validateMetadataOfTemplate validates the metadata in a template, that the
// objects made from it get.
func validateMetadataOfTemplate(meta *infrastructure.TemplateMeta, path *field.Path) field.ErrorList {
	errs := tooMany(len(meta.Labels), maxTemplateMetadata, path.Child("labels"))
	errs = append(errs, tooMany(len(meta.Annotations), maxTemplateMetadata, path.Child("annotations"))...)
	if errs != nil {
		return errs
	}
	errs = metav1validation.ValidateLabels(meta.Labels, path.Child("labels"))
	return append(errs, apivalidation.ValidateAnnotations(meta.Annotations, path.Child("annotations"))...)
}

// changed reports whether two specs differ in more than nil and empty.
func changed(spec, old any) bool {
	return !apiequality.Semantic.DeepEqual(spec, old)
}
