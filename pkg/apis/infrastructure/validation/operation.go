// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// The most bytes of texts in requests for operations.
const (
	maxReasonLength    = 256
	maxRequestIDLength = 128
	maxReasonShown     = 64
	maxChoiceLength    = 64
)

var (
	powerActions = []infrastructure.PowerAction{
		infrastructure.PowerOn, infrastructure.PowerOff, infrastructure.PowerReset, infrastructure.PowerCycle,
		infrastructure.PowerBootDisk, infrastructure.PowerBootPXE, infrastructure.PowerBootBIOS,
	}
	ledStates = []infrastructure.LEDState{infrastructure.LEDOn, infrastructure.LEDOff}
)

// requestIDSyntax is that of request ids: they are shown in statuses, and compared.
var requestIDSyntax = regexp.MustCompile(`^[A-Za-z0-9._:/-]+$`)

// ValidatePower validates a request for a power action. BootPXE needs a reason, as a
// reinstallation does.
func ValidatePower(power *infrastructure.MachinePower) field.ErrorList {
	errs := requireOneOf(power.Spec.Action, powerActions, specPath.Child("action"))
	reason := validateReason
	if power.Spec.Action == infrastructure.PowerBootPXE {
		reason = requireReason
	}
	errs = append(errs, reason(power.Spec.Reason, specPath.Child("reason"))...)
	return append(errs, validateRequestID(power.Spec.RequestID, specPath.Child("requestID"))...)
}

// ValidateIdentify validates a request for a chassis LED.
func ValidateIdentify(identify *infrastructure.MachineIdentify) field.ErrorList {
	errs := requireOneOf(identify.Spec.State, ledStates, specPath.Child("state"))
	return append(errs, validateReason(identify.Spec.Reason, specPath.Child("reason"))...)
}

// ValidateConsolePassword validates a request for a console password.
func ValidateConsolePassword(password *infrastructure.MachineConsolePassword) field.ErrorList {
	return requireReason(password.Spec.Reason, specPath.Child("reason"))
}

// ValidateReinstall validates a request for a reinstallation, but for the image, which is
// looked up later.
func ValidateReinstall(reinstall *infrastructure.MachineReinstall) field.ErrorList {
	errs := requireID(reinstall.Spec.Image, specPath.Child("image"), imageHelp)
	return append(errs, requireReason(reinstall.Spec.Reason, specPath.Child("reason"))...)
}

// ValidateLock validates a request for a lock.
func ValidateLock(lock *infrastructure.MachineLock) field.ErrorList {
	return requireReason(lock.Spec.Reason, specPath.Child("reason"))
}

// ValidateUnlockReason validates the query parameter that says why a lock is taken away.
func ValidateUnlockReason(reason string) field.ErrorList {
	path := field.NewPath("reason")
	if strings.TrimSpace(reason) == "" {
		return field.ErrorList{field.Required(path, "the query parameter reason must say why the machine is unlocked, in one line of at most 256 bytes: …/lock?reason=…")}
	}
	return validateReason(reason, path)
}

// ValidateOperationName validates that a body of a subresource is of the object that the URL
// names.
func ValidateOperationName(name, object string) field.ErrorList {
	if name == "" || name == object {
		return nil
	}
	return field.ErrorList{field.Invalid(metadataPath.Child("name"), name, fmt.Sprintf("must be the name of the object that the URL names, which is %q, or left out", object))}
}

// requireOneOf validates a choice that may not be left out.
func requireOneOf[T ~string](value T, allowed []T, path *field.Path) field.ErrorList {
	switch long := tooLong(string(value), maxChoiceLength, path); {
	case long != nil:
		return long
	case value == "":
		return field.ErrorList{field.Required(path, "must be one of "+quoted(allowed))}
	case !slices.Contains(allowed, value):
		return field.ErrorList{field.NotSupported(path, value, allowed)}
	}
	return nil
}

func quoted[T ~string](values []T) string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, fmt.Sprintf("%q", string(value)))
	}
	return strings.Join(texts, ", ")
}

// requireReason validates a reason that may not be left out.
func requireReason(reason string, path *field.Path) field.ErrorList {
	if strings.TrimSpace(reason) == "" {
		return field.ErrorList{field.Required(path, "must say why, in one line of at most 256 bytes: it is recorded as an Event, with the name of the user")}
	}
	return validateReason(reason, path)
}

// validateReason validates a reason that may be left out.
func validateReason(reason string, path *field.Path) field.ErrorList {
	if errs := tooLong(reason, maxReasonLength, path); errs != nil {
		return errs
	}
	if strings.ContainsFunc(reason, unprintable) {
		return field.ErrorList{field.Invalid(path, oneline.Sanitize(reason, maxReasonShown), "must be one line, without control characters")}
	}
	return nil
}

func validateRequestID(id string, path *field.Path) field.ErrorList {
	if errs := tooLong(id, maxRequestIDLength, path); errs != nil || id == "" || requestIDSyntax.MatchString(id) {
		return errs
	}
	return field.ErrorList{field.Invalid(path, oneline.Sanitize(id, maxReasonShown), "must consist of letters, digits, '-', '_', '.', ':' and '/', such as a UUID")}
}
