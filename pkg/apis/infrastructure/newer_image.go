// SPDX-License-Identifier: Apache-2.0

package infrastructure

import "fmt"

// NewerImageMessage is the message of the condition ImageUpToDate: the image of the spec is an
// alias that stands for a newer image than the machine has.
func NewerImageMessage(alias, newest, machineID, installed string) string {
	return fmt.Sprintf("Image %q stands for %q now; machine %s has %q.", alias, newest, machineID, installed)
}

// NewestImageOf returns the newer image of a message of NewerImageMessage; nothing if it is
// another message.
func NewestImageOf(message string) string {
	var alias, newest string
	if _, err := fmt.Sscanf(message, "Image %q stands for %q now;", &alias, &newest); err != nil {
		return ""
	}
	return newest
}
