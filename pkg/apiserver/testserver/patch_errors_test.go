// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Of the object that a JSON patch made, and that cannot be decoded, an answer quotes a bounded
// part, and says what is wrong. Other bodies are refused before they are decoded.
func TestJSONPatch_ErrorIsBounded(t *testing.T) {
	t.Parallel()
	send := newSender(t, Start(t, Options{}))
	patch := []any{map[string]any{"op": "add", "path": "/metadata/creationTimestamp", "value": strings.Repeat(`a"`, 35_000)}}
	for _, path := range []string{"metalstackmachines/existing", "metalstackmachines/existing?dryRun=All", "metalstackmachines/existing/status"} {
		status, answer := send.send(t, "PATCH", path, "application/json-patch+json", patch)
		assert.Equal(t, http.StatusUnprocessableEntity, status, "%s: %.1000s", path, answer)
		assert.Less(t, len(answer), 16<<10, path)
		assert.Contains(t, answer, "parsing time", "%s: %.1000s", path, answer)
	}
}
