// SPDX-License-Identifier: Apache-2.0

// Package logging limits what the flags of logs have the programs log.
package logging

import (
	"fmt"

	logsapi "k8s.io/component-base/logs/api/v1"
)

// MaxVerbosity is the highest verbosity without bodies: from 8 on, k8s.io/client-go logs those
// of requests and answers, with user data, Secrets and tokens in them.
const MaxVerbosity = 7

// Validate returns an error for --v, and for each pattern of --vmodule, whose verbosity is
// higher than MaxVerbosity.
func Validate(c *logsapi.LoggingConfiguration) []error {
	var errs []error
	if c.Verbosity > MaxVerbosity {
		errs = append(errs, tooVerbose("--v", c.Verbosity))
	}
	for _, item := range c.VModule {
		if item.Verbosity > MaxVerbosity {
			errs = append(errs, tooVerbose("--vmodule="+item.FilePattern, item.Verbosity))
		}
	}
	return errs
}

func tooVerbose(flag string, verbosity logsapi.VerbosityLevel) error {
	return fmt.Errorf("%s must be at most %d, got %d: from %d on, bodies of requests are logged, with user data and tokens in them", flag, MaxVerbosity, verbosity, MaxVerbosity+1)
}
