package apiserver

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// credentialReloadInterval is how often the credential is read again.
const credentialReloadInterval = 10 * time.Second

// reloadCredential hands a credential on when it changes, until ctx ends. What
// is wrong with it is logged, never what it is.
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
