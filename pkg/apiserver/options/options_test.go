// SPDX-License-Identifier: Apache-2.0

package options

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
)

const project = "10000000-0000-4000-8000-00000000000a"

// standaloneOptions are valid.
func standaloneOptions(t *testing.T) *Options {
	t.Helper()
	o := New()
	o.Standalone = true
	o.Metal.URL = "http://127.0.0.1:1/metal"
	o.Metal.HMACFile = filepath.Join(t.TempDir(), "hmac")
	require.NoError(t, os.WriteFile(o.Metal.HMACFile, []byte("secret\n"), 0o600))
	o.Records.DataDir = t.TempDir()
	return o
}

func TestOptions_ValidateReportsEveryError(t *testing.T) {
	o := standaloneOptions(t)
	require.NoError(t, o.Complete())
	require.NoError(t, o.Validate())

	t.Setenv(HMACVariable, "")
	o.Metal.URL, o.Metal.HMACFile, o.Metal.HMACType, o.Metal.PollingBudget = "api.example.org", "", "Metal-View", 2
	o.Records.Ledger, o.Records.ProjectBindings = "etcd", []string{"team-a"}
	err := o.Validate()
	for _, flag := range []string{"--metal-api-url", "--metal-api-hmac-file", "--metal-api-hmac-type", "--metal-api-polling-budget", "--ledger", "--project-binding"} {
		assert.ErrorContains(t, err, flag)
	}
}

func TestOptions_RefuseURLOfTheMetalAPIWithItsVersionOrAPassword(t *testing.T) {
	for url, message := range map[string]string{
		"https://api.example.org/metal/v1":        `--metal-api-url must have the base path without /v1, which is added to it, such as "https://api.example.org/metal"`,
		"https://me:secret@api.example.org/metal": `--metal-api-url must have no user and no password, got one in "https://api.example.org/metal"`,
		"https://api.example.org/metal?secret":    `--metal-api-url must have no query and no fragment`,
	} {
		o := standaloneOptions(t)
		o.Metal.URL = url
		require.NoError(t, o.Complete())
		err := o.Validate()
		require.ErrorContains(t, err, message)
		assert.NotContains(t, err.Error(), "secret")
	}
}

func TestRecords_InAClusterAreKeptInTheServersNamespace(t *testing.T) {
	t.Setenv(NamespaceVariable, "")
	o := standaloneOptions(t)
	o.Records.Ledger = LedgerKubernetes
	require.NoError(t, o.Complete())
	assert.ErrorContains(t, o.Validate(), "requires a cluster")

	o = standaloneOptions(t)
	o.Standalone = false
	require.NoError(t, o.Complete())
	assert.Equal(t, LedgerKubernetes, o.Records.Ledger)
	assert.ErrorContains(t, o.Validate(), "--namespace must be")
	t.Setenv(NamespaceVariable, "of-the-pod")
	require.NoError(t, o.Complete())
	assert.Empty(t, o.Records.Validate(false))
	assert.Equal(t, "of-the-pod", o.Records.Namespace)
	o.Records.Namespace = "of-the-flag"
	require.NoError(t, o.Complete())
	assert.Equal(t, "of-the-flag", o.Records.Namespace)
	assert.Equal(t, net.IPv4zero, o.SecureServing.BindAddress)

	o.Records.ProjectBindings = []string{"team-a=" + project}
	assert.ErrorContains(t, errors.Join(o.Records.Validate(false)...), "label")
}

func TestStandalone_ListensOnLoopback(t *testing.T) {
	t.Parallel()
	o := standaloneOptions(t)
	require.NoError(t, o.Complete())
	assert.True(t, o.SecureServing.BindAddress.IsLoopback())
	assert.Equal(t, filepath.Join(o.Records.DataDir, "kubeconfig"), o.KubeconfigOut)
}

func TestHMAC_IsReadFromFileOrEnvironment(t *testing.T) {
	o := standaloneOptions(t)
	key, err := o.Metal.HMAC()
	require.NoError(t, err)
	assert.Equal(t, "secret", key)
	require.NoError(t, os.WriteFile(o.Metal.HMACFile, []byte(" other "), 0o600))
	key, err = o.Metal.HMAC()
	require.NoError(t, err)
	assert.Equal(t, "other", key, "read again")
	require.NoError(t, os.WriteFile(o.Metal.HMACFile, []byte("\n"), 0o600))
	_, err = o.Metal.HMAC()
	require.ErrorContains(t, err, "empty")

	t.Setenv(HMACVariable, "from-environment")
	o.Metal.HMACFile = ""
	key, err = o.Metal.HMAC()
	require.NoError(t, err)
	assert.Equal(t, "from-environment", key)
}

func TestFlags_HaveNoneForTheCredential(t *testing.T) {
	t.Setenv(HMACVariable, "from-environment")
	o := New()
	var usage bytes.Buffer
	for _, set := range o.Flags().FlagSets {
		usage.WriteString(set.FlagUsages())
	}
	assert.NotContains(t, usage.String(), "from-environment")
	assert.NotContains(t, usage.String(), "--metal-api-hmac ")
}

func TestStandalone_AuthorizesOnlyTheAdministrator(t *testing.T) {
	t.Parallel()
	o := standaloneOptions(t)
	o.SecureServing.BindPort = 0
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	o.SecureServing.Listener = listener
	o.Records.ProjectBindings = []string{"team-a=" + project}
	require.NoError(t, o.Complete())
	config, err := o.Config(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, config.Close()) })

	decision, _, err := config.Generic.Authorization.Authorizer.Authorize(t.Context(), authorizer.AttributesRecord{User: otherUser{}, Path: "/apis", Verb: "get"})
	require.NoError(t, err)
	assert.NotEqual(t, authorizer.DecisionAllow, decision)
	assert.Equal(t, metalclient.AuthEdit, config.Extra.Metal.AuthType)
	assert.NotEmpty(t, config.Extra.ManagementCluster)
	bound, ok := config.Extra.Bindings.Project("team-a")
	assert.True(t, ok)
	assert.Equal(t, project, bound)
	_, err = config.Extra.Bindings.BeginCreate(t.Context(), schema.GroupResource{Resource: "metalstackmachines"}, "team-b", "node-1")
	assert.ErrorContains(t, err, "--project-binding=team-b=")
	assert.FileExists(t, o.KubeconfigOut)
}

// otherUser is a user in no group.
type otherUser struct{}

func (otherUser) GetName() string               { return "other" }
func (otherUser) GetUID() string                { return "" }
func (otherUser) GetGroups() []string           { return nil }
func (otherUser) GetExtra() map[string][]string { return nil }

func TestReplicas_ValidateLeaseTimes(t *testing.T) {
	t.Parallel()
	o := NewReplicas()
	assert.Empty(t, o.Validate())
	for name, c := range map[string]struct {
		change func(*Replicas)
		want   string
	}{
		"a deadline beyond the Lease":    {func(o *Replicas) { o.RenewDeadline = o.LeaseDuration }, "--leader-elect-renew-deadline must be less than"},
		"a deadline of one try":          {func(o *Replicas) { o.RetryPeriod = o.RenewDeadline }, "--leader-elect-renew-deadline must be more than"},
		"a Lease that cannot be written": {func(o *Replicas) { o.LeaseDuration += 500 * time.Millisecond }, "whole number of seconds"},
		"no period":                      {func(o *Replicas) { o.RetryPeriod = 0 }, "--leader-elect-retry-period"},
		"a negative grace":               {func(o *Replicas) { o.HandoverGracePeriod = -1 }, "--handover-grace-period"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := NewReplicas()
			c.change(o)
			errs := o.Validate()
			require.Len(t, errs, 1)
			assert.ErrorContains(t, errs[0], c.want)
		})
	}
	o.LeaderElect, o.RetryPeriod = false, 0
	assert.Empty(t, o.Validate())
}

// docs/api-conventions.md promises names of flags.
func TestOptions_FlagsAreThoseOfTheAPIConventions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/api-conventions.md")
	require.NoError(t, err)
	sets := New().Flags()
	known := func(name string) bool {
		return slices.ContainsFunc(sets.Order, func(set string) bool { return sets.FlagSets[set].Lookup(name) != nil })
	}
	rows := regexp.MustCompile(`(?m)^\| (`+"`--.*)"+` \| server`).FindAllSubmatch(page, -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		for _, flag := range regexp.MustCompile("`--([a-z-]+)").FindAllSubmatch(row[1], -1) {
			assert.True(t, known(string(flag[1])), "--%s", flag[1])
		}
	}
}

func TestOptions_FlagHelpIsASentence(t *testing.T) {
	t.Parallel()
	o := New()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.Metal.AddFlags(flags)
	o.Records.AddFlags(flags)
	o.Cluster.AddFlags(flags)
	o.Replicas.AddFlags(flags)
	sets := o.Flags()
	flags.AddFlagSet(sets.FlagSet("standalone"))
	for _, name := range []string{"shutdown-delay-duration", "allocation-drain-timeout", "bind-address"} {
		flags.AddFlag(sets.FlagSet("serving").Lookup(name))
	}
	flags.VisitAll(func(f *pflag.Flag) { assert.Regexp(t, `^[A-Z](?s:.*)\.$`, f.Usage, f.Name) })
}
