// SPDX-License-Identifier: Apache-2.0

package oneline

import (
	"fmt"

	"k8s.io/klog/v2"
)

// LogFilter is a klog.LogFilter that makes one line of each message and of each
// value that is a string or an error. It is for klog's text format; JSON has no
// line breaks in values. Stack traces stay as they are.
type LogFilter struct{}

var _ klog.LogFilter = LogFilter{}

// Filter implements klog.LogFilter.
func (LogFilter) Filter(args []any) []any { return values(args, 0, 1) }

// FilterF implements klog.LogFilter. The format is the program's own.
func (LogFilter) FilterF(format string, args []any) (string, []any) {
	return format, values(args, 0, 1)
}

// FilterS implements klog.LogFilter.
func (LogFilter) FilterS(message string, keysAndValues []any) (string, []any) {
	return Sanitize(message, MaxLogValue), values(keysAndValues, 1, 2)
}

// values returns args with every step-th value from first on as one line. The
// caller's slice is left as it is.
func values(args []any, first, step int) []any {
	var changed []any
	for i := first; i < len(args); i += step {
		text, isText := textOf(args[i])
		if !isText || step == 2 && isStack(args[i-1]) {
			continue
		}
		line := Sanitize(text, MaxLogValue)
		if line == text {
			continue
		}
		if changed == nil {
			changed = append(changed, args...)
		}
		changed[i] = line
	}
	if changed == nil {
		return args
	}
	return changed
}

func textOf(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case error:
		defer func() {
			if recover() != nil { // a nil pointer that is an error
				text, ok = "", false
			}
		}()
		return v.Error(), true
	}
	return "", false
}

func isStack(key any) bool {
	name := fmt.Sprint(key)
	return name == "stacktrace" || name == "stack"
}
