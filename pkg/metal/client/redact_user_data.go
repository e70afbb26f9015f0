// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	redactedUserData = "[user data]"
	// minCutUserData is from how many bytes on the end of a message that was cut
	// counts as the beginning of user data.
	minCutUserData = 4
)

// redactUserData takes user data out of an error, should a proxy have echoed it.
func redactUserData(err error, userData []byte) error {
	e, ok := errors.AsType[*metal.Error](err)
	if !ok || len(bytes.TrimSpace(userData)) == 0 {
		return err
	}
	// A message is one line.
	line := oneline.Sanitize(string(userData), len(userData))
	for _, secret := range []string{encodeUserData(userData), string(userData), string(bytes.TrimSpace(userData)), line} {
		if redacted := redactCut(strings.ReplaceAll(e.Message, secret, redactedUserData), secret); redacted != e.Message {
			e.Message, e.Err = redacted, nil
		}
	}
	return e
}

// redactCut takes the beginning of a secret off the end of a message that was cut
// there, so that the whole is not found in it.
func redactCut(message, secret string) string {
	kept, wasCut := strings.CutSuffix(message, oneline.Ellipsis)
	if !wasCut {
		return message
	}
	for n := min(len(secret), len(kept)); n >= minCutUserData; n-- {
		if begin, found := strings.CutSuffix(kept, strings.TrimRight(secret[:n], " ")); found {
			return begin + redactedUserData + oneline.Ellipsis
		}
	}
	return message
}
