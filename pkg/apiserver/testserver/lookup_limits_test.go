// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A namespace that requests too many lookups gets 429 with Retry-After; others
// go on.
func TestLookups_BeyondNamespaceLimitReturn429(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	send := newSender(t, s)
	before, refused, began := gets(s), 0, time.Now()
	for i := range 40 {
		networks := make([]any, 12)
		for n := range networks {
			networks[n] = fmt.Sprintf("unknown-%d-%d", i, n)
		}
		object := sizedKinds()[0].object("new")
		object["spec"] = map[string]any{"image": simulator.MachineImage, "machineType": simulator.SmallSize, "networks": networks}
		status, answer := send.send(t, "POST", "metalstackmachines?dryRun=All", "application/json", object)
		switch status {
		case http.StatusTooManyRequests:
			refused++
			assert.Contains(t, answer, `"retryAfterSeconds":1`)
			assert.Contains(t, answer, "too many lookups of networks, machines and addresses")
		default:
			assert.Equal(t, http.StatusUnprocessableEntity, status, answer)
		}
	}
	assert.Positive(t, refused)
	// Two more are allowed each second.
	assert.Less(t, gets(s)-before, 300+2*int(time.Since(began)/time.Second), "of 480 that were named")
	send.base = strings.Replace(send.base, NamespaceA, NamespaceB, 1)
	object := sizedKinds()[0].object("new")
	object["metadata"].(map[string]any)["namespace"] = NamespaceB
	object["spec"] = map[string]any{"image": simulator.MachineImage, "machineType": simulator.SmallSize, "networks": []any{simulator.InternetNetwork}}
	status, answer := send.send(t, "POST", "metalstackmachines?dryRun=All", "application/json", object)
	assert.Equal(t, http.StatusCreated, status, answer)
}
