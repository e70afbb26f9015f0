// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// metadataInformers is the name of the client of the informers that the garbage collector and
// the quota controller share: they watch all resources that can be deleted, in every
// cluster, for as long as it exists.
const metadataInformers = "metadata-informers"

// withRecordsOnlyForControllers returns the context of a read. Kubernetes' own controllers are
// shown the records of networks and addresses alone: what is discovered has no owner, cannot be
// deleted, and counts against no quota, and their watches would have all of it observed for ever.
func withRecordsOnlyForControllers(ctx context.Context) context.Context {
	for _, controller := range []string{metadataInformers, garbageCollector, namespaceController, "resourcequota-controller"} {
		if sentBy(ctx, controller) {
			return storage.WithRecordsOnly(ctx)
		}
	}
	return ctx
}
