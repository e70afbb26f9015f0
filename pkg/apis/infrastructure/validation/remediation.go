// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// What the strategy of a remediation can be.
const (
	minRetryLimit = 1
	maxRetryLimit = 10

	minRemediationTimeout = time.Minute
	maxRemediationTimeout = 24 * time.Hour
)

// What a status of a remediation can have at most.
const (
	maxEnumLength            = 63
	maxRemediatedMachineName = validation.LabelValueMaxLength
	maxAllocationUUIDLength  = 64
)

var (
	remediationTypes  = []infrastructure.RemediationStrategyType{infrastructure.RemediationReboot}
	remediationPhases = []infrastructure.RemediationPhase{
		infrastructure.RemediationPoweringOff, infrastructure.RemediationFencing, infrastructure.RemediationPoweringOn,
		infrastructure.RemediationWaiting, infrastructure.RemediationSucceeded, infrastructure.RemediationFailed,
	}
)

// ValidateRemediation validates a new MetalStackRemediation, which has the name of a Machine.
func ValidateRemediation(remediation *infrastructure.MetalStackRemediation) field.ErrorList {
	errs := validateTemplateMetadata(&remediation.ObjectMeta)
	return append(errs, validateRemediationSpec(&remediation.Spec, specPath)...)
}

// ValidateRemediationUpdate validates a changed MetalStackRemediation.
func ValidateRemediationUpdate(remediation, old *infrastructure.MetalStackRemediation) field.ErrorList {
	errs := validateMetadataUpdate(&remediation.ObjectMeta, &old.ObjectMeta)
	if changed(&remediation.Spec, &old.Spec) {
		errs = append(errs, validateRemediationSpec(&remediation.Spec, specPath)...)
		errs = append(errs, field.Forbidden(specPath, "the strategy of a remediation cannot be changed: change what the MachineHealthCheck references in spec.remediation.templateRef, which holds for the next remediation"))
	}
	return errs
}

// ValidateRemediationStatusUpdate validates a changed status of a MetalStackRemediation.
func ValidateRemediationStatusUpdate(remediation, old *infrastructure.MetalStackRemediation) field.ErrorList {
	errs := validateMetadataUpdate(&remediation.ObjectMeta, &old.ObjectMeta)
	status := &remediation.Status
	errs = append(errs, validateEnum(status.Phase, remediationPhases, statusPath.Child("phase"))...)
	if status.Attempt < 0 || status.Attempt > maxRetryLimit {
		errs = append(errs, field.Invalid(statusPath.Child("attempt"), status.Attempt, validation.InclusiveRangeError(0, maxRetryLimit)))
	}
	if machine := status.Machine; machine != nil {
		path := statusPath.Child("machine")
		errs = append(errs, tooLong(machine.Name, maxRemediatedMachineName, path.Child("name"))...)
		errs = append(errs, tooLong(machine.AllocationUUID, maxAllocationUUIDLength, path.Child("allocationUUID"))...)
	}
	errs = append(errs, tooLong(status.FencedNode, validation.DNS1123SubdomainMaxLength, statusPath.Child("fencedNode"))...)
	return append(errs, validateConditions(status.Conditions)...)
}

// ValidateRemediationTemplate validates a new MetalStackRemediationTemplate.
func ValidateRemediationTemplate(template *infrastructure.MetalStackRemediationTemplate) field.ErrorList {
	errs := validateTemplateMetadata(&template.ObjectMeta)
	return append(errs, validateRemediationTemplateSpec(&template.Spec)...)
}

// ValidateRemediationTemplateUpdate validates a changed MetalStackRemediationTemplate;
// see ValidateMachineTemplateUpdate.
func ValidateRemediationTemplateUpdate(template, old *infrastructure.MetalStackRemediationTemplate, dryRun bool) field.ErrorList {
	errs := validateMetadataUpdate(&template.ObjectMeta, &old.ObjectMeta)
	if !changed(&template.Spec, &old.Spec) {
		return errs
	}
	errs = append(errs, validateRemediationTemplateSpec(&template.Spec)...)
	if !isTopologyDryRun(&template.ObjectMeta, dryRun) {
		errs = append(errs, field.Forbidden(specPath, "a template cannot be changed: "+templateHelp))
	}
	return errs
}

func validateRemediationTemplateSpec(spec *infrastructure.MetalStackRemediationTemplateSpec) field.ErrorList {
	errs := validateMetadataOfTemplate(&spec.Template.ObjectMeta, templatePath.Child("metadata"))
	return append(errs, validateRemediationSpec(&spec.Template.Spec, templatePath.Child("spec"))...)
}

// validateRemediationSpec validates how a Machine is remediated; what is left out has a default.
func validateRemediationSpec(spec *infrastructure.MetalStackRemediationSpec, path *field.Path) field.ErrorList {
	strategy := &spec.Strategy
	path = path.Child("strategy")
	errs := validateEnum(strategy.Type, remediationTypes, path.Child("type"))
	if limit := strategy.RetryLimit; limit != 0 && (limit < minRetryLimit || limit > maxRetryLimit) {
		errs = append(errs, field.Invalid(path.Child("retryLimit"), limit, validation.InclusiveRangeError(minRetryLimit, maxRetryLimit)))
	}
	return append(errs, validateDuration(strategy.Timeout, minRemediationTimeout, maxRemediationTimeout, path.Child("timeout"))...)
}

// validateEnum refuses what is none of the supported values; a long one without quoting it.
func validateEnum[T ~string](value T, supported []T, path *field.Path) field.ErrorList {
	switch long := tooLong(string(value), maxEnumLength, path); {
	case value == "" || slices.Contains(supported, value):
		return nil
	case long != nil:
		return long
	}
	return field.ErrorList{field.NotSupported(path, value, supported)}
}
