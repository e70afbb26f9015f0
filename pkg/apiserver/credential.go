// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// credentialReloadInterval is how often the credential is reloaded.
const credentialReloadInterval = 10 * time.Second

// reloadCredential reads a credential periodically, and sets it when it has changed,
// until ctx ends. It never logs the credential.
func reloadCredential(ctx context.Context, interval time.Duration, current string, read func() (string, error), set func(string)) {
	logger := klog.FromContext(ctx)
	wait.UntilWithContext(ctx, func(context.Context) {
		next, err := read()
		switch {
		case err != nil:
			logger.Error(err, "Failed to reload the HMAC key for the metal-api: continuing with the previous one")
		case next != current:
			set(next)
			current = next
			logger.Info("Reloaded the HMAC key for the metal-api")
		}
	}, interval)
}
