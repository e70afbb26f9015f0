// SPDX-License-Identifier: Apache-2.0

// Package warning adds one-line warnings to answers. It is apart from oneline,
// which links no API server.
package warning

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Add adds a warning to the answer of a request.
func Add(ctx context.Context, format string, args ...any) {
	warning.AddWarning(ctx, "", oneline.Sanitize(fmt.Sprintf(format, args...), oneline.MaxWarning))
}
