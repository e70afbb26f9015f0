// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// staleMark is what the server's warning of a stale answer has in it.
const staleMark = ": stale: "

type staleReadKey struct{}

// watchForStaleReads returns a context for a read, and whether the server has answered it with
// what it had observed before.
func watchForStaleReads(ctx context.Context) (context.Context, func() bool) {
	stale := &atomic.Bool{}
	return context.WithValue(ctx, staleReadKey{}, stale), stale.Load
}

// withStaleReads has clients of a configuration notice stale answers.
func withStaleReads(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	if config.WarningHandler == nil && config.WarningHandlerWithContext == nil {
		config.WarningHandlerWithContext = staleReads{log.NewKubeAPIWarningLogger(log.KubeAPIWarningLoggerOptions{})}
	}
	return config
}

// staleReads passes warnings on, and notes those of stale answers.
type staleReads struct {
	next rest.WarningHandlerWithContext
}

var _ rest.WarningHandlerWithContext = staleReads{}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (h staleReads) HandleWarningHeaderWithContext(ctx context.Context, code int, agent, text string) {
	if stale, watched := ctx.Value(staleReadKey{}).(*atomic.Bool); watched && strings.Contains(text, staleMark) {
		stale.Store(true)
	}
	h.next.HandleWarningHeaderWithContext(ctx, code, agent, text)
}
