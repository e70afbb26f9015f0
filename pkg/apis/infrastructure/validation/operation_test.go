// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestValidatePower_NamesFieldAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]infrastructure.MachinePowerSpec{
		"": {Action: infrastructure.PowerBootBIOS, Reason: `<script>"é"`, RequestID: "1b4c0e-8f6d/2/off"},
		`spec.action: Required value: must be one of "On", "Off", "Reset", "Cycle", "BootDisk", "BootPXE", "BootBIOS"`:                       {},
		`spec.action: Unsupported value: "on": supported values: "On", "Off", "Reset", "Cycle", "BootDisk", "BootPXE", "BootBIOS"`:           {Action: "on"},
		`spec.action: Too long: may not be more than 64 bytes`:                                                                               {Action: infrastructure.PowerAction(strings.Repeat("x", 65))},
		`spec.reason: Invalid value: "a b": must be one line, without control characters`:                                                    {Action: infrastructure.PowerOn, Reason: "a\nb"},
		`spec.reason: Required value: must say why, in one line of at most 256 bytes: it is recorded as an Event, with the name of the user`: {Action: infrastructure.PowerBootPXE},
		`spec.reason: Invalid value: "a [31mb": must be one line`:                                                                            {Action: infrastructure.PowerOn, Reason: "a\x1b[31mb"},
		`spec.reason: Too long: may not be more than 256 bytes`:                                                                              {Action: infrastructure.PowerOn, Reason: strings.Repeat("é", 129)},
		`spec.requestID: Invalid value: "a b": must consist of letters, digits, '-', '_', '.', ':' and '/', such as a UUID`:                  {Action: infrastructure.PowerOn, RequestID: "a b"},
		`spec.requestID: Too long: may not be more than 128 bytes`:                                                                           {Action: infrastructure.PowerOn, RequestID: strings.Repeat("a", 129)},
	} {
		saysOf(t, ValidatePower(&infrastructure.MachinePower{Spec: spec}), want)
	}
}

func TestValidateIdentify_NamesFieldAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]infrastructure.MachineIdentifySpec{
		"": {State: infrastructure.LEDOff},
		`spec.state: Required value: must be one of "On", "Off"`:                {Reason: "x"},
		`spec.state: Unsupported value: "Blink": supported values: "On", "Off"`: {State: "Blink"},
		`spec.reason: Invalid value: "a b"`:                                     {State: infrastructure.LEDOn, Reason: "a\tb"},
	} {
		saysOf(t, ValidateIdentify(&infrastructure.MachineIdentify{Spec: spec}), want)
	}
}

func TestValidateReason_IsRequiredForWhatIsRecorded(t *testing.T) {
	t.Parallel()
	for want, reason := range map[string]string{
		"": "no network",
		"spec.reason: Required value: must say why, in one line of at most 256 bytes": "",
		"spec.reason: Required value":                           " ",
		`spec.reason: Invalid value: "a b": must be one line`:   "a\r\nb",
		"spec.reason: Too long: may not be more than 256 bytes": strings.Repeat("a", 257),
	} {
		saysOf(t, ValidateConsolePassword(&infrastructure.MachineConsolePassword{Spec: infrastructure.MachineConsolePasswordSpec{Reason: reason}}), want)
		saysOf(t, ValidateReinstall(&infrastructure.MachineReinstall{Spec: infrastructure.MachineReinstallSpec{Image: "ubuntu-24.04", Reason: reason}}), want)
		saysOf(t, ValidateLock(&infrastructure.MachineLock{Spec: infrastructure.MachineLockSpec{Reason: reason}}), want)
	}
}

func TestValidateReinstall_ImageIsRequired(t *testing.T) {
	t.Parallel()
	for want, image := range map[string]string{
		"spec.image: Required value: must be an image or its alias, such as ubuntu-24.04": "",
		`spec.image: Invalid value: "../machine": must be a metal-stack id`:               "../machine",
		"spec.image: Too long: may not be more than 253 bytes":                            strings.Repeat("a", 254),
	} {
		saysOf(t, ValidateReinstall(&infrastructure.MachineReinstall{Spec: infrastructure.MachineReinstallSpec{Image: image, Reason: "x"}}), want)
	}
}

func TestValidateUnlockReason_NamesQueryParameter(t *testing.T) {
	t.Parallel()
	saysOf(t, ValidateUnlockReason("done"), "")
	saysOf(t, ValidateUnlockReason(""), "reason: Required value: the query parameter reason must say why")
	saysOf(t, ValidateUnlockReason("a\nb"), `reason: Invalid value: "a b"`)
}

func TestValidateOperationName_IsOfTheURL(t *testing.T) {
	t.Parallel()
	saysOf(t, ValidateOperationName("", "node-1"), "")
	saysOf(t, ValidateOperationName("node-1", "node-1"), "")
	saysOf(t, ValidateOperationName("node-2", "node-1"), `metadata.name: Invalid value: "node-2": must be the name of the object that the URL names, which is "node-1", or left out`)
}

// saysOf expects one error, or none.
func saysOf(t *testing.T, errs field.ErrorList, want string) {
	t.Helper()
	if want == "" {
		says(t, errs)
		return
	}
	says(t, errs, want)
}
