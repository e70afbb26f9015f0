// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/operation"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const operated = "operated"

// operatedPath is the path of a subresource of the machine that is operated.
func operatedPath(subresource string) string {
	return fmt.Sprintf("/apis/%s/namespaces/%s/metalstackmachines/%s/%s", api.SchemeGroupVersion, operated, operated, subresource)
}

// operationsThroughKubeAPIServer operates a machine with kubectl, as docs/tenancy.md shows.
func operationsThroughKubeAPIServer(t *testing.T, env *environment) {
	env.Bind(t, operated, project("0"))
	ctx, admin := soon(t), env.admin(t)
	m := objects.Machine(operated, objects.InDefaultPartition)
	m.Annotations = map[string]string{infrastructure.PausedAnnotation: ""}
	c := objects.Cluster(operated)
	c.Annotations = m.Annotations
	_, err := admin.MetalStackClusters(operated).Create(ctx, c, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackMachines(operated).Create(ctx, m, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackClusters(operated).Allocate(ctx, operated, &api.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	allocated, err := admin.MetalStackMachines(operated).Allocate(ctx, operated, &api.Allocation{ClusterRef: &api.LocalReference{Name: operated}}, metav1.CreateOptions{})
	require.NoError(t, err)
	id := allocated.Status.Allocation.MachineID
	require.NoError(t, env.sim.ReportInstalled(id))
	for user, roles := range map[string][]string{
		"olga": {"metalstack-operator", "metalstack-lock", "view"}, "carl": {"metalstack-console"}, "rena": {"metalstack-operator", "metalstack-reinstall"},
	} {
		for _, role := range roles {
			_, err := env.Client().RbacV1().RoleBindings(operated).Create(ctx, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: user + "-" + role},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
			}, metav1.CreateOptions{})
			require.NoError(t, err)
		}
	}
	olga, carl, rena := env.User("olga"), env.User("carl"), env.User("rena")
	framework.Eventually(t, limit, func(context.Context) error {
		for config, subresource := range map[*rest.Config]string{olga: "lock", carl: "consolepassword", rena: "reinstall"} {
			if stdout, _, err := env.Kubectl(t, config, "auth", "can-i", "create", "metalstackmachines.infrastructure.cluster.x-k8s.io", "--subresource="+subresource, "-n", operated); err != nil {
				return fmt.Errorf("%s: %w", stdout, err)
			}
		}
		return nil
	})

	// A reason is text, whatever it looks like.
	const reason = `<img src=x onerror=alert(1)> "hangs" %s`
	var power api.MachinePower
	env.post(t, olga, "power", map[string]any{"action": "Cycle", "reason": reason, "requestID": "1"}, &power)
	assert.Equal(t, []string{operated, string(allocated.UID), string(api.PowerCycle)}, []string{power.Name, string(power.UID), string(power.Spec.Action)})
	e := env.eventOf(t, operation.ReasonPowerRequested)
	assert.Contains(t, e.Note, "olga")
	assert.Contains(t, e.Note, reason)
	assert.Equal(t, allocated.UID, e.Regarding.UID)

	stdout, stderr, err := env.Kubectl(t, olga, "get", "--raw", operatedPath("power"))
	require.NoError(t, err, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &power))
	assert.Equal(t, "MachinePower", power.Kind)
	assert.NotEmpty(t, power.Status.State)
	stdout, stderr, err = env.Kubectl(t, olga, "get", "msm", operated, "-n", operated, "--subresource=power")
	require.NoError(t, err, stderr)
	assert.Regexp(t, `^NAME +STATE +OBSERVED +BMC +BIOS\n`+operated, stdout)

	require.NoError(t, env.sim.SendEvent(id, "Phoned Home", "<b>phoned</b>"))
	framework.Eventually(t, limit, func(context.Context) error {
		stdout, stderr, err := env.Kubectl(t, olga, "get", "msm", operated, "-n", operated, "--subresource=log")
		if err == nil && !strings.Contains(stdout, "Phoned Home") {
			err = fmt.Errorf("%s%s", stdout, stderr)
		}
		if err == nil {
			assert.Regexp(t, `^TIME +EVENT +MESSAGE\n`, stdout)
		}
		return err
	})

	var password api.MachineConsolePassword
	env.post(t, carl, "consolepassword", map[string]any{"reason": "no network"}, &password)
	assert.NotEmpty(t, password.Status.Password)
	e = env.eventOf(t, operation.ReasonConsolePasswordRead)
	assert.Contains(t, e.Note, "carl")
	assert.Contains(t, e.Note, "no network")
	assert.NotContains(t, e.Note, password.Status.Password)
	assert.NotContains(t, env.Servers[0].Log(t), password.Status.Password)

	var lock api.MachineLock
	env.post(t, olga, "lock", map[string]any{"reason": "evidence"}, &lock)
	assert.True(t, lock.Status.Locked)
	_, stderr, err = env.Kubectl(t, olga, "delete", "--raw", operatedPath("lock"))
	require.Error(t, err)
	assert.Contains(t, stderr, "the query parameter reason must say why")
	stdout, stderr, err = env.Kubectl(t, olga, "delete", "--raw", operatedPath("lock")+"?reason=done")
	require.NoError(t, err, stderr)
	lock = api.MachineLock{}
	require.NoError(t, json.Unmarshal([]byte(stdout), &lock))
	assert.Equal(t, "MachineLock", lock.Kind)
	assert.False(t, lock.Status.Locked)
	assert.Contains(t, env.eventOf(t, operation.ReasonUnlocked).Note, "done")

	// A boot from the network is a reinstallation.
	boot := map[string]any{"action": "BootPXE", "reason": "boot from the network"}
	_, stderr, err = env.Kubectl(t, olga, "create", "--raw", operatedPath("power"), "-f", env.bodyFile(t, boot))
	require.Error(t, err)
	assert.Contains(t, stderr, `user "olga" cannot create resource "metalstackmachines/reinstall"`)
	env.post(t, rena, "power", boot, &power)
	assert.Contains(t, env.eventOf(t, operation.ReasonPowerRequested).Note, `is requested by "rena": boot from the network`)

	t.Run("Impersonation_HasTheRightsOfTheImpersonated", func(t *testing.T) { env.impersonatedUsersOperate(t) })
}

// impersonatedUsersOperate: who may impersonate has the rights of the other user and no
// more, and the Event names that one; the kube-apiserver's audit log names both.
func (env *environment) impersonatedUsersOperate(t *testing.T) {
	file := env.bodyFile(t, map[string]any{"reason": "as carl"})
	_, stderr, err := env.Kubectl(t, env.Admin(), "create", "--raw", operatedPath("consolepassword"), "-f", file, "--as=olga")
	require.Error(t, err)
	assert.Contains(t, stderr, "Forbidden")
	_, stderr, err = env.Kubectl(t, env.User("olga"), "create", "--raw", operatedPath("consolepassword"), "-f", file, "--as=carl")
	require.Error(t, err)
	assert.Contains(t, stderr, `cannot impersonate`)
	_, stderr, err = env.Kubectl(t, env.Admin(), "create", "--raw", operatedPath("consolepassword"), "-f", file, "--as=carl")
	require.NoError(t, err, stderr)
	framework.Eventually(t, limit, func(context.Context) error {
		if note := env.eventOf(t, operation.ReasonConsolePasswordRead).Note; !strings.Contains(note, "as carl") || !strings.Contains(note, `"carl"`) {
			return fmt.Errorf("last: %s", note)
		}
		return nil
	})
}

func (env *environment) bodyFile(t *testing.T, spec map[string]any) string {
	t.Helper()
	content, err := json.Marshal(map[string]any{"spec": spec})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "body.json")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// post makes a request with kubectl, and decodes the answer.
func (env *environment) post(t *testing.T, config *rest.Config, subresource string, spec map[string]any, answer any) {
	t.Helper()
	stdout, stderr, err := env.Kubectl(t, config, "create", "--raw", operatedPath(subresource), "-f", env.bodyFile(t, spec))
	require.NoError(t, err, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), answer))
}

// eventOf waits for an Event about the machine that is operated, and returns the newest.
func (env *environment) eventOf(t *testing.T, reason string) (newest eventsv1.Event) {
	t.Helper()
	framework.Eventually(t, limit, func(context.Context) error {
		events, err := env.Client().EventsV1().Events(operated).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Kind == "MetalStackMachine" && e.Regarding.Name == operated && !e.EventTime.Before(&newest.EventTime) {
				newest = e
			}
		}
		if newest.Reason == "" {
			return fmt.Errorf("no event %s", reason)
		}
		return nil
	})
	return newest
}
