// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// tenant is a user without other rights than those of a ClusterRole in the namespace.
type tenant struct {
	*space
	user string
}

func (s *space) tenant(user, role string) *tenant {
	s.t.Helper()
	s.kubectl("create", "rolebinding", user, "--clusterrole="+role, "--user="+user)
	u := &tenant{s, user}
	s.eventually(func() bool { return u.run("", "get", "msproj", "--as="+user).code == 0 }, "%s of %s", role, user)
	return u
}

func (u *tenant) kubectl(args ...string) string {
	u.t.Helper()
	return u.space.kubectl(append(args, "--as="+u.user)...)
}

// newcomerFindsWhatToWrite reads what a spec can name, with `view` alone.
func newcomerFindsWhatToWrite(s *space) {
	u := s.tenant("viewer", "view")
	assert.Regexp(s.t, `(?m)^fra-01 +64 `, u.kubectl("get", "mspart"))
	assert.Regexp(s.t, `c1-large-x86: \d+, v1-small-x86: \d+`, u.kubectl("get", "mspart", "-o=wide"))
	assert.Regexp(s.t, `(?m)^v1-small-x86 +1-4 +500Mi-4Gi`, u.kubectl("get", "mssize"))
	assert.Equal(s.t, "ubuntu-22.04.20250701 ubuntu-24.04.20260101",
		u.kubectl("get", "msimg", "--field-selector=status.newest=true,status.os=ubuntu", "-o=jsonpath={.items[*].metadata.name}"))
	assert.Contains(s.t, u.kubectl("get", "msproj", "-o=name"), s.project)
	assert.Equal(s.t, simulator.InternetNetwork+" tiny-fra-01",
		u.kubectl("get", "msnet", "--field-selector=status.type=External", "-o=jsonpath={.items[*].metadata.name}"))
	assert.Empty(s.t, u.kubectl("get", "msip", "-o=name"))
	for _, kind := range []string{"msproj", "mspart", "mssize", "msimg", "msnet", "msip"} {
		assert.Contains(s.t, u.kubectl("explain", kind+".status"), "FIELDS:")
	}
	assert.Contains(s.t, u.refused("", "delete", "mssize", "v1-small-x86", "--as="+u.user), "Forbidden")

	// A watch shows that a machine is allocated. Other tests allocate, too.
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	cmd := s.KubectlCommand(ctx, s.Admin(), "get", "msproj", "--namespace="+s.name, "--watch", "--no-headers", "--as="+u.user)
	pipe, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	lines := bufio.NewScanner(pipe)
	require.True(s.t, lines.Scan(), "the project")
	s.discovered()
	shown := false
	for !shown && lines.Scan() {
		fields := strings.Fields(lines.Text())
		shown = len(fields) > 3 && fields[3] == "1"
	}
	assert.True(s.t, shown, "the project's machines: %v", lines.Err())
	cancel()
	_ = cmd.Wait() // it was ended
}

// addressOutlivesCluster has a static address as a cluster's control plane, with `edit` alone.
func addressOutlivesCluster(s *space) {
	u := s.tenant("editor", "edit")
	// There is nothing to decide on a claim but its network.
	u.kubectlIn(fmt.Sprintf(`
apiVersion: %s
kind: MetalStackIP
metadata:
  name: api
spec:
  networkID: %s
`, v1alpha4.SchemeGroupVersion, simulator.InternetNetwork), "create", "--as="+u.user, "-f=-")
	u.kubectl("wait", "msip/api", "--for=condition=Ready", "--timeout=60s")
	address := u.field(".status.address", "msip", "api", "--as="+u.user)
	require.NotEmpty(s.t, address)

	u.kubectlIn(clusterManifest("rose")+fmt.Sprintf("  controlPlaneEndpoint: {host: %q, port: 6443}\n", address), "create", "--as="+u.user, "-f=-")
	u.kubectl("wait", "msc/rose", "--for=condition=Ready", "--timeout=60s")
	assert.Contains(s.t, u.kubectl("get", "msip", "api", "--no-headers"), "control plane of rose")
	u.kubectl("delete", "msip", "api", "--wait=false")
	s.eventually(func() bool {
		return u.field(`.status.conditions[?(@.type=="Deleting")].reason`, "msip", "api", "--as="+u.user) == "InUse"
	}, "the deletion waits for the cluster")
	assert.Equal(s.t, 1, s.addresses(address), "it is kept while it is in use")

	u.kubectl("delete", "msc", "rose", "--timeout=60s")
	u.kubectl("wait", "msip/api", "--for=delete", "--timeout=60s")
	assert.Zero(s.t, s.addresses(address), "it is released")
}

// addresses counts how often an address is allocated.
func (s *space) addresses(address string) (n int) {
	for _, ip := range s.Metal.Sim.Inventory().IPs {
		if ip.Address == address {
			n++
		}
	}
	return n
}
