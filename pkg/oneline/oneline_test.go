// SPDX-License-Identifier: Apache-2.0

package oneline

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/net"
)

func TestOneline_MakesOneLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                 "",
		" ":                                "",
		"plain":                            "plain",
		"two\nlines":                       "two lines",
		"\r\n a \t b\v\x00\u0085c\u2028d ": "a b c d",
		"a\x1b[31mred":                     "a [31mred",
		"a\u202edesrever":                  "a desrever",
		"bad\xffutf8":                      "bad utf8",
		"größe „x“ …":                      "größe „x“ …",
		"a  b":                             "a  b",
	} {
		assert.Equal(t, want, Sanitize(in, 100), "%q", in)
	}
}

func TestOneline_IsBounded(t *testing.T) {
	t.Parallel()
	for _, in := range []string{strings.Repeat("x", 1<<20), strings.Repeat("ö", 1000), strings.Repeat("a\n", 1000), strings.Repeat("\n", 1000) + "end"} {
		for _, limit := range []int{4, 5, 10, 255, 256, 1024} {
			got := Sanitize(in, limit)
			assert.LessOrEqual(t, len(got), limit)
			assert.True(t, utf8.ValidString(got))
			assert.NotContains(t, got, "\n")
		}
	}
	assert.Equal(t, "0123456789", Sanitize("0123456789", 10))
	assert.Equal(t, "012345 …", Sanitize("0123456789a", 10))
	assert.Equal(t, "012345678", Sanitize("012345678\n\n\n", 10))
	assert.Equal(t, "012345 …", Sanitize("0123456789 a", 10), "cut at a space")
}

func FuzzSanitize(f *testing.F) {
	f.Add("two\nlines", 20)
	f.Add("\xff\x00", 4)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < len(Ellipsis) || limit > 1<<20 {
			return
		}
		got := Sanitize(text, limit)
		require.LessOrEqual(t, len(got), limit)
		require.Equal(t, got, Sanitize(got, limit), "it is stable")
		_, err := net.NewWarningHeader(299, "", got)
		require.NoError(t, err)
	})
}

func TestLogFilter_MakesOneLineOfValues(t *testing.T) {
	t.Parallel()
	err := errors.Join(errors.New("a"), errors.New("b"))
	var none *strange
	given := []any{"reason", "a\nb", "err", err, "n", 7, "stacktrace", "goroutine 1\nmain", "none", none}
	message, got := LogFilter{}.FilterS("hello\nworld", given)
	assert.Equal(t, "hello world", message)
	assert.Equal(t, []any{"reason", "a b", "err", "a b", "n", 7, "stacktrace", "goroutine 1\nmain", "none", none}, got)
	assert.Equal(t, "a\nb", given[1], "the caller's values are left as they are")
	assert.Equal(t, []any{"a b"}, LogFilter{}.Filter([]any{"a\nb"}))
	_, args := LogFilter{}.FilterF("%s", []any{strings.Repeat("x", 1<<20)})
	assert.LessOrEqual(t, len(args[0].(string)), MaxLogValue)
}

// strange is an error whose nil pointer cannot be asked.
type strange struct{ text string }

func (s *strange) Error() string { return s.text }
