// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// apply applies the manifests of a version, as docs/upgrade.md says.
func (env *environment) apply(version string) {
	env.t.Helper()
	_, stderr, err := env.Kubectl(env.t, env.Admin(), "apply", "-k", env.overlays[version])
	require.NoError(env.t, err, stderr)
}

// order is which of two servers is replaced first.
type order int

const (
	standbyFirst order = iota
	activeFirst
)

// roll replaces both servers as their Deployment does (maxSurge 1, maxUnavailable 0): a new
// one gets ready, then an old one is stopped. Before the active one is stopped,
// beforeActive is called.
func (env *environment) roll(o order, beforeActive func()) {
	env.t.Helper()
	old := env.pair()
	if o == standbyFirst {
		slices.Reverse(old)
	}
	var replaced []*cluster.Program
	for _, p := range old {
		replacement := env.StartServer(env.whole)
		replacement.AwaitReady(env.t)
		replaced = append(replaced, replacement)
		if p.Name == env.Holder(env.t) {
			beforeActive()
			beforeActive = func() {}
		}
		env.terminate(p)
		env.AwaitActive(env.t, append(replaced, old...)...)
	}
	env.Servers = replaced
}

// pairWithout are the servers but one.
func (env *environment) pairWithout(p *cluster.Program) []*cluster.Program {
	return slices.DeleteFunc(slices.Clone(env.Servers), func(other *cluster.Program) bool { return other == p })
}

// pair is the active server, and the one that stands by.
func (env *environment) pair() []*cluster.Program {
	env.t.Helper()
	active := env.AwaitActive(env.t, env.Servers...)
	pair := slices.Clone(env.Servers)
	if pair[0] != active {
		slices.Reverse(pair)
	}
	return pair
}

// terminate does what becomes of a Pod that is deleted.
func (env *environment) terminate(p *cluster.Program) {
	env.t.Helper()
	began := time.Now()
	p.Terminate(env.t)
	<-p.Ended()
	p.Pod.Delete(env.t)
	assert.Zero(env.t, p.ExitCode(), p.Name)
	env.t.Logf("%s ended after %s", p.Name, time.Since(began).Round(time.Millisecond))
}

// rollManager replaces the controller manager.
func (env *environment) rollManager() {
	env.t.Helper()
	replacement := env.StartControllerManager(env.whole)
	replacement.AwaitReady(env.t)
	env.terminate(env.ControllerManager)
	env.ControllerManager = replacement
}

// serves requires that discovery and OpenAPI, through the kube-apiserver, are those of the
// server that is active.
func (env *environment) serves() {
	env.t.Helper()
	direct := env.Metalstack(env.t, env.direct(env.pair()[0])).Discovery().RESTClient()
	through := env.Client().Discovery().RESTClient()
	for _, version := range cluster.Versions {
		for _, path := range []string{"/apis/" + version.String(), "/openapi/v3/apis/" + version.String()} {
			env.eventually(func(ctx context.Context) error {
				want, err := direct.Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
				if err != nil {
					return err
				}
				got, err := through.Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
				if err == nil {
					err = sameJSON(want, got)
				}
				return err
			}, "%s is the active server's", path)
		}
	}
}
