// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	otherTenant       = "other tenant"
	controllerManager = "controller manager"
	discoveredRole    = "metalstack-discovered-operator"
	firewallGroup     = "firewall.metal-stack.io"
)

// clusterScoped are the resources that are in no namespace.
var clusterScoped = []string{"metalstackimages", "metalstackpartitions", "metalstacksizes"}

// roleRow is a row of the table of roles in docs/tenancy.md.
type roleRow struct {
	resources, verbs []string
	// allowed are the columns that say yes.
	allowed []string
}

var (
	roleTableForm = regexp.MustCompile(`(?s)<!-- test: roles -->\n(.+?)\n\n`)
	codeForm      = regexp.MustCompile("`([^`]+)`")
)

// roleTable reads the table: its columns after the resources and the verbs, and its rows.
func roleTable(t *testing.T) (columns []string, rows []roleRow) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(cluster.Deploy(), "..", "..", "docs", "tenancy.md"))
	require.NoError(t, err)
	match := roleTableForm.FindSubmatch(page)
	require.NotNil(t, match, "docs/tenancy.md has the table of roles")
	cells := func(line string) (all []string) {
		for cell := range strings.SplitSeq(strings.Trim(line, "| "), "|") {
			all = append(all, strings.Trim(cell, " `"))
		}
		return all
	}
	lines := strings.Split(string(match[1]), "\n")
	columns = cells(lines[0])[2:]
	for _, line := range lines[2:] {
		texts := strings.Split(strings.Trim(line, "|"), "|")
		require.Len(t, texts, len(columns)+2, line)
		var row roleRow
		for _, resource := range codeForm.FindAllStringSubmatch(texts[0], -1) {
			row.resources = append(row.resources, resource[1])
		}
		for _, verb := range codeForm.FindAllStringSubmatch(texts[1], -1) {
			row.verbs = append(row.verbs, verb[1])
		}
		for i, text := range texts[2:] {
			switch strings.TrimSpace(text) {
			case "yes":
				row.allowed = append(row.allowed, columns[i])
			case "":
			default:
				t.Errorf("a cell says neither yes nor nothing: %s", line)
			}
		}
		require.NotEmpty(t, row.resources, line)
		require.NotEmpty(t, row.verbs, line)
		rows = append(rows, row)
	}
	return columns, rows
}

// rolesAreWhatTheTableSays tries each verb of each role through the kube-apiserver.
// Everything that changes something is a dry run.
func rolesAreWhatTheTableSays(t *testing.T, env *environment) {
	const namespace, elsewhere = "role-table", "role-table-elsewhere"
	columns, rows := roleTable(t)
	env.Bind(t, namespace, project("9"))
	env.Bind(t, elsewhere, "")
	named := env.roleTableObjects(t, namespace, project("9"))
	t.Run("Table_HasEveryServedVerb", func(t *testing.T) { env.tableHasEveryServedVerb(t, rows) })
	for _, column := range columns {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			user := env.roleTableUser(t, column, namespace, elsewhere)
			// Whoever operates discovered machines has the right to the subresource, too.
			operator := env.roleTableUser(t, column, namespace, elsewhere, "metalstack-operator")
			for _, allowed := range []bool{true, false} { // Rights have taken effect when the second half begins.
				for _, row := range rows {
					if slices.Contains(row.allowed, column) != allowed {
						continue
					}
					for _, resource := range row.resources {
						for _, verb := range row.verbs {
							config := user
							if verb == "operate" {
								config = operator
							}
							expectCell(t, column, verb, resource, allowed, func(ctx context.Context) (int, string, error) {
								return request(ctx, config, verb, resource, namespace, named)
							})
						}
					}
				}
			}
		})
	}
}

// expectCell tries one cell of the table.
func expectCell(t *testing.T, column, verb, resource string, allowed bool, try func(context.Context) (int, string, error)) {
	t.Helper()
	if !allowed {
		status, body, err := try(soon(t))
		require.NoError(t, err)
		assert.Equal(t, http.StatusForbidden, status, "%s may not %s %s: %s", column, verb, resource, body)
		return
	}
	framework.Eventually(t, limit, func(ctx context.Context) error {
		status, body, err := try(ctx)
		_, subresource, _ := strings.Cut(resource, "/")
		isOperation := slices.Contains(operationSubresources, subresource)
		// What is allowed may be invalid or absent, and an operation is done.
		if err == nil && (status >= http.StatusMultipleChoices && isOperation || status == http.StatusForbidden || status >= http.StatusInternalServerError) {
			err = fmt.Errorf("%s may %s %s: %d: %s", column, verb, resource, status, body)
		}
		return err
	})
}

// roleTableUser is a user with a role of the table in a namespace, and further ones, or
// whoever else the column is about.
func (env *environment) roleTableUser(t *testing.T, column, namespace, elsewhere string, further ...string) *rest.Config {
	t.Helper()
	bind := func(user, role, namespace string) {
		_, err := env.Client().RbacV1().RoleBindings(namespace).Create(soon(t), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user + "-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	user := strings.ReplaceAll(strings.Join(append(slices.Clone(further), "table", column), "-"), " ", "-")
	switch column {
	case controllerManager:
		return rest.CopyConfig(env.ControllerManager.Account)
	case otherTenant:
		for _, role := range []string{"admin", "metalstack-operator", "metalstack-console", "metalstack-reinstall", "metalstack-lock", discoveredRole, "metalstack-metalapi"} {
			bind(user, role, elsewhere)
		}
	default:
		for _, role := range slices.Compact(append(further, column)) {
			bind(user, role, namespace)
		}
	}
	return env.User(user)
}

// roleTableObjects allocates one of each kind that holds metal, and returns the names of
// objects by resource.
func (env *environment) roleTableObjects(t *testing.T, namespace, project string) map[string]string {
	t.Helper()
	ctx, admin := soon(t), env.admin(t)
	paused := metav1.ObjectMeta{Name: "table", Annotations: map[string]string{infrastructure.PausedAnnotation: ""}}
	c, m, f := objects.Cluster("table"), objects.Machine("table"), objects.Firewall("table")
	c.ObjectMeta, m.ObjectMeta, f.ObjectMeta = paused, paused, paused
	m.Spec.Partition, f.Spec.Partition = simulator.DefaultPartition, simulator.DefaultPartition
	_, err := admin.MetalStackClusters(namespace).Create(ctx, c, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackMachines(namespace).Create(ctx, m, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackFirewalls(namespace).Create(ctx, f, metav1.CreateOptions{})
	require.NoError(t, err)
	body := &api.Allocation{ClusterRef: &api.LocalReference{Name: "table"}}
	_, err = admin.MetalStackClusters(namespace).Allocate(ctx, "table", &api.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	m, err = admin.MetalStackMachines(namespace).Allocate(ctx, "table", body, metav1.CreateOptions{})
	require.NoError(t, err)
	f, err = admin.MetalStackFirewalls(namespace).Allocate(ctx, "table", body, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, id := range []string{m.Status.Allocation.MachineID, f.Status.Allocation.MachineID} {
		require.NoError(t, env.sim.ReportInstalled(id)) // Only then it has a console password.
	}
	discovered, network := env.byHand(t, project)
	firewall, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: project, Name: "by-hand", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{network, simulator.InternetNetwork}, Firewall: true,
	})
	require.NoError(t, err)
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, err := admin.MetalStackMachines(namespace).Get(ctx, discovered, metav1.GetOptions{})
		if err == nil {
			_, err = admin.MetalStackFirewalls(namespace).Get(ctx, firewall, metav1.GetOptions{})
		}
		return err
	})
	return map[string]string{
		"metalstackclusters": "table", "metalstackmachines": "table", "metalstackfirewalls": "table",
		"metalstackmachines/discovered": discovered, "metalstackfirewalls/discovered": firewall,
	}
}

// tableHasEveryServedVerb compares the table with what the server says that it serves.
func (env *environment) tableHasEveryServedVerb(t *testing.T, rows []roleRow) {
	covered := map[string]int{}
	for _, row := range rows {
		for _, resource := range row.resources {
			for _, verb := range row.verbs {
				covered[verb+" "+resource]++
			}
		}
	}
	for what, times := range covered {
		assert.Equal(t, 1, times, "the table says once who may %s", what)
	}
	for _, gv := range []string{api.SchemeGroupVersion.String(), firewallGroup + "/v2"} {
		served, err := env.Client().Discovery().ServerResourcesForGroupVersion(gv)
		require.NoError(t, err)
		for _, resource := range served.APIResources {
			plural, subresource, _ := strings.Cut(resource.Name, "/")
			if strings.HasPrefix(gv, firewallGroup) {
				plural += "." + firewallGroup
			}
			name := strings.TrimSuffix(plural+"/"+subresource, "/")
			for _, verb := range resource.Verbs {
				assert.Positive(t, covered[verb+" "+name], "the table does not say who may %s %s", verb, name)
			}
		}
	}
}

// request makes the request of a verb, as a dry run.
func request(ctx context.Context, config *rest.Config, verb, resource, namespace string, names map[string]string) (status int, body string, err error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, "", err
	}
	plural, subresource, _ := strings.Cut(resource, "/")
	name := names[plural]
	content, query := operationBody(subresource, "{}"), "dryRun=All"
	if plural == "metalstackfirewalls" {
		content = strings.ReplaceAll(content, "ubuntu-24.04", simulator.FirewallImage)
	}
	if verb == "operate" {
		// The verb has no request of its own: what is operated is power.
		name, subresource, verb = names[resource], "power", "create"
		content = operationBody("power", "{}")
	}
	if name == "" {
		name = "absent"
	}
	group := api.SchemeGroupVersion.String()
	if short, found := strings.CutSuffix(plural, "."+firewallGroup); found {
		plural, group = short, firewallGroup+"/v2"
	}
	collection := fmt.Sprintf("%s/apis/%s/namespaces/%s/%s", config.Host, group, namespace, plural)
	if slices.Contains(clusterScoped, plural) {
		collection = fmt.Sprintf("%s/apis/%s/%s", config.Host, group, plural)
	}
	one := collection + "/" + name
	if subresource != "" {
		one += "/" + subresource
	}
	if subresource == "metalapi" {
		one += "/v1/health"
	}
	method, url, contentType := http.MethodGet, one, "application/json"
	switch verb {
	case "list":
		url = collection
	case "watch":
		url, query = collection, "watch=true&timeoutSeconds=1&resourceVersion=0"
	case "create":
		method = http.MethodPost
		if subresource == "" {
			url = collection
		}
	case "update":
		method = http.MethodPut
	case "patch":
		method, contentType, content = http.MethodPatch, "application/merge-patch+json", "{}"
	case "delete":
		method, content, query = http.MethodDelete, "", "dryRun=All&reason=x"
	case "deletecollection":
		method, content, url = http.MethodDelete, "", collection
	}
	if method == http.MethodGet {
		content = ""
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"?"+query, bytes.NewReader([]byte(content)))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text := make([]byte, 1<<10)
	n, _ := resp.Body.Read(text)
	return resp.StatusCode, string(text[:n]), nil
}
