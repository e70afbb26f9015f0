package apiserver

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// credentialInterval is how often the credential is read again.
const credentialInterval = 10 * time.Second

// keepCredential hands a credential on when it changes, until ctx ends. What
// is wrong with it is logged, never what it is.
func keepCredential(ctx context.Context, interval time.Duration, current string, read func() (string, error), set func(string)) {
	logger := klog.FromContext(ctx)
	wait.UntilWithContext(ctx, func(context.Context) {
		next, err := read()
		switch {
		case err != nil:
			logger.Error(err, "Cannot read the metal-api's key; going on with the one that was read before")
		case next != current:
			set(next)
			current = next
			logger.Info("The metal-api's key has changed")
		}
	}, interval)
}
