// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"strconv"
	"testing"
)

// Minor is the minor version of Kubernetes: 36 of v1.36.3.
func (c *ControlPlane) Minor(t testing.TB) int {
	t.Helper()
	version, err := c.client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	minor, err := strconv.Atoi(version.Minor)
	if err != nil {
		t.Fatalf("the kube-apiserver says that it is %q: %v", version.GitVersion, err)
	}
	return minor
}

// SkipBefore skips a test of what Kubernetes has from a minor version on.
func (c *ControlPlane) SkipBefore(t testing.TB, minor int, what string) {
	t.Helper()
	if is := c.Minor(t); is < minor {
		t.Skipf("v1.%d has no %s, which v1.%d has", is, what, minor)
	}
}
