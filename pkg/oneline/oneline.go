// SPDX-License-Identifier: Apache-2.0

// Package oneline makes one line of bounded length of texts that others wrote:
// the metal-api's words, errors that were joined, what a user typed. Such a text
// is read as one line wherever it leaves: as a Warning header, which
// k8s.io/apiserver drops without an error if it has a control character (RFC 7234,
// section 5.5, is stricter than what errors hold), as a condition's message, an
// Event's note, or a value in the log.
package oneline

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest texts, in bytes.
const (
	// MaxWarning is the longest Warning header that the server sends. If all
	// warnings of a response have more than 4096 characters, k8s.io/apiserver cuts
	// each to 256 and drops those that exceed 4096 then.
	MaxWarning = 256
	// MaxMessage is that of a condition's message, which may have 32768, but is
	// for people.
	MaxMessage = 2048
	// MaxNote is that of an Event's note; Kubernetes takes 1024.
	MaxNote = 1000
	// MaxLogValue is that of a message or a value in the log.
	MaxLogValue = 4096
)

// Ellipsis is the end of a text that was cut.
const Ellipsis = " …"

// Sanitize returns text as one line of at most limit bytes: whatever cannot be
// printed, line breaks among it, becomes a space, together with the spaces
// around it, and what is too long ends with an ellipsis.
func Sanitize(text string, limit int) string {
	if isClean(text, limit) {
		return text
	}
	var b strings.Builder
	replaced, space := true, true // none at the beginning
	for _, r := range text {
		switch {
		case r == utf8.RuneError || !unicode.IsPrint(r):
			replaced = true
			if space {
				continue
			}
			r = ' '
		case r == ' ' && replaced:
			continue
		default:
			replaced = false
		}
		space = r == ' '
		// One more than the limit, which is no space, decides whether something has
		// to be cut.
		if b.Len() > limit && !space {
			b.WriteRune(r)
			break
		}
		b.WriteRune(r)
	}
	line := strings.TrimRight(b.String(), " ")
	if len(line) <= limit {
		return line
	}
	end := max(0, limit-len(Ellipsis))
	for end > 0 && !utf8.RuneStart(line[end]) {
		end--
	}
	return strings.TrimRight(line[:end], " ") + Ellipsis
}

// isClean returns whether a text needs no change, as most do not.
func isClean(text string, limit int) bool {
	if len(text) > limit {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return text == strings.Trim(text, " ")
}
