package metal

import "time"

// Defaults of ObserverOptions.
const (
	DefaultBudget        = 0.05
	DefaultSweepInterval = 10 * time.Second
	DefaultFocusInterval = time.Second
	DefaultReadLimit     = time.Second
	DefaultParallel      = 16
)
