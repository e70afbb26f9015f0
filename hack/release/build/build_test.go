// SPDX-License-Identifier: Apache-2.0

package build

import "testing"

func TestStamp_NeedsASemanticVersion(t *testing.T) {
	t.Parallel()
	for version, valid := range map[string]bool{
		"v0.1.0": true, "v1.20.3-rc.1": true,
		"": false, "0.1.0": false, "v0.1": false, "v01.0.0": false, "v0.1.0 -X main.a=b": false, "latest": false,
	} {
		if err := (Stamp{Version: version}).Validate(); (err == nil) != valid {
			t.Errorf("%q: %v", version, err)
		}
	}
}
