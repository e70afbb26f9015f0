// SPDX-License-Identifier: Apache-2.0

package options

import (
	"crypto/tls"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOptions_ValidateReportsEveryFlag(t *testing.T) {
	t.Parallel()
	o := New()
	require.NoError(t, o.Validate())
	o.Controller.Clusters, o.Controller.Machines, o.Controller.Firewalls = 0, -1, 0
	o.Controller.LoadBalancerGracePeriod, o.Controller.FirewallUnhealthyTimeout, o.Controller.FirewallProvisioningTimeout = -1, -1, -1
	err := o.Validate()
	for _, message := range []string{
		"--cluster-concurrency must be at least 1, got 0", "--machine-concurrency must be at least 1, got -1", "--firewall-concurrency",
		"--load-balancer-grace-period must not be negative, got -1ns", "--firewall-unhealthy-timeout", "--firewall-provisioning-timeout",
	} {
		assert.ErrorContains(t, err, message)
	}
}

func TestOptions_ManagerOptions(t *testing.T) {
	t.Parallel()
	o := New()
	options, err := o.ManagerOptions()
	require.NoError(t, err)
	assert.Nil(t, options.Cache.DefaultNamespaces, "all namespaces")
	assert.False(t, options.LeaderElection)
	assert.Nil(t, options.Metrics.FilterProvider)

	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.AddFlags(fs)
	require.NoError(t, fs.Parse([]string{"--namespace=team-a,team-b", "--leader-elect", "--metrics-secure", "--metrics-bind-address=:8443", "--kube-api-qps=7"}))
	options, err = o.ManagerOptions()
	require.NoError(t, err)
	assert.Len(t, options.Cache.DefaultNamespaces, 2)
	assert.Contains(t, options.Cache.DefaultNamespaces, "team-b")
	assert.True(t, options.LeaderElection)
	assert.True(t, options.LeaderElectionReleaseOnCancel)
	assert.Equal(t, "metalstack-controller-manager", options.LeaderElectionID)
	assert.Equal(t, ":8443", options.Metrics.BindAddress)
	assert.NotNil(t, options.Metrics.FilterProvider, "metrics are for the authorized only")
	assert.InDelta(t, 7, o.QPS, 0)
}

func TestOptions_MetricsAreServedWithoutCBCAndHTTP2(t *testing.T) {
	t.Parallel()
	o := New()
	o.MetricsSecure = true
	options, err := o.ManagerOptions()
	require.NoError(t, err)
	config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	for _, apply := range options.Metrics.TLSOpts {
		apply(config)
	}
	assert.Equal(t, []string{"http/1.1"}, config.NextProtos)
	require.NotEmpty(t, config.CipherSuites)
	for _, suite := range config.CipherSuites {
		assert.NotContains(t, tls.CipherSuiteName(suite), "_CBC_")
	}
}

func TestOptions_FlagHelpIsASentence(t *testing.T) {
	t.Parallel()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o := New()
	o.AddFlags(fs)
	libraries := map[string]bool{"logging-format": true, "log-flush-frequency": true, "v": true, "vmodule": true}
	fs.VisitAll(func(f *pflag.Flag) {
		if libraries[f.Name] || strings.HasPrefix(f.Name, "log-") {
			return
		}
		assert.Regexp(t, `^[A-Z](?s:.*)\.$`, f.Usage, f.Name)
	})
}

// docs/api-conventions.md promises names of flags.
func TestOptions_FlagsAreThoseOfTheAPIConventions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/api-conventions.md")
	require.NoError(t, err)
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	New().AddFlags(fs)
	rows := regexp.MustCompile(`(?m)^\| (`+"`--.*)"+` \| controller manager`).FindAllSubmatch(page, -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		for _, flag := range regexp.MustCompile("`--([a-z-]+)").FindAllSubmatch(row[1], -1) {
			assert.NotNil(t, fs.Lookup(string(flag[1])), "--%s", flag[1])
		}
	}
}
