// SPDX-License-Identifier: Apache-2.0

package options

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
)

// HMACVariable is the environment variable of the HMAC key.
const HMACVariable = "METAL_API_HMAC"

// Metal are the options of the metal-api's client and observation.
type Metal struct {
	URL      string
	HMACFile string
	HMACType string

	PollingBudget         float64
	SweepInterval         time.Duration
	ConsistentReadTimeout time.Duration

	Region string
}

// NewMetal returns the defaults.
func NewMetal() *Metal {
	return &Metal{
		HMACType:              metalclient.AuthEdit,
		PollingBudget:         observation.DefaultBudget,
		SweepInterval:         observation.DefaultSweepInterval,
		ConsistentReadTimeout: observation.DefaultRefreshTimeout,
	}
}

// AddFlags adds the flags. There is none for the HMAC key itself: all users of the
// machine can read command lines.
func (o *Metal) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.URL, "metal-api-url", o.URL, "URL of the metal-api with its base path, without /v1, for example https://api.example.org/metal.")
	fs.StringVar(&o.HMACFile, "metal-api-hmac-file", o.HMACFile, "Path to the file that contains the HMAC key for the metal-api. It is reloaded when it changes. "+
		"If empty, the key is read from the environment variable "+HMACVariable+".")
	fs.StringVar(&o.HMACType, "metal-api-hmac-type", o.HMACType, "Type of the HMAC key: "+metalclient.AuthEdit+", which is sufficient, or "+metalclient.AuthAdmin+".")
	fs.Float64Var(&o.PollingBudget, "metal-api-polling-budget", o.PollingBudget, "Fraction of the metal-api's time, between 0.001 and 1, that may be spent on polling by all replicas together; a standby replica uses a fifth of it. "+
		"With a higher value, changes in a large installation are observed earlier.")
	fs.DurationVar(&o.SweepInterval, "sweep-interval", o.SweepInterval, "Minimum duration between two sweeps, which are observations of all machines. The polling budget can make it longer.")
	fs.DurationVar(&o.ConsistentReadTimeout, "consistent-read-timeout", o.ConsistentReadTimeout, "Maximum duration that a consistent read (a get, or a list without resourceVersion) waits for the metal-api. After it, the read is answered from the last observation, with a warning.")
	fs.StringVar(&o.Region, "region", o.Region, "Region of the metal-api's partitions. If set, machines are allocated with the tag topology.kubernetes.io/region, of which metal-ccm makes a label of their Nodes.")
}

// Validate returns all errors.
func (o *Metal) Validate() []error {
	var errs []error
	if _, err := metalclient.ParseURL("--metal-api-url", o.URL); err != nil {
		errs = append(errs, err)
	}
	if o.HMACType != metalclient.AuthEdit && o.HMACType != metalclient.AuthAdmin {
		errs = append(errs, fmt.Errorf("--metal-api-hmac-type must be %s or %s, got %q", metalclient.AuthEdit, metalclient.AuthAdmin, o.HMACType))
	}
	if o.PollingBudget < 0.001 || o.PollingBudget > 1 {
		errs = append(errs, fmt.Errorf("--metal-api-polling-budget must be between 0.001 and 1, inclusive, got %g", o.PollingBudget))
	}
	if o.SweepInterval <= 0 {
		errs = append(errs, fmt.Errorf("--sweep-interval must be greater than zero, got %s", o.SweepInterval))
	}
	if o.ConsistentReadTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--consistent-read-timeout must be greater than zero, got %s", o.ConsistentReadTimeout))
	}
	for _, msg := range validation.IsValidLabelValue(o.Region) {
		errs = append(errs, fmt.Errorf("--region must be a valid label value, got %q: %s", o.Region, msg))
	}
	if o.HMACFile == "" && os.Getenv(HMACVariable) == "" {
		errs = append(errs, fmt.Errorf("the HMAC key for the metal-api must be specified, with --metal-api-hmac-file or the environment variable %s", HMACVariable))
	}
	return errs
}

// HMAC reads the HMAC key. No error quotes it.
func (o *Metal) HMAC() (string, error) {
	if o.HMACFile == "" {
		return os.Getenv(HMACVariable), nil
	}
	content, err := os.ReadFile(o.HMACFile)
	if err != nil {
		return "", fmt.Errorf("--metal-api-hmac-file: %w", err)
	}
	key := strings.TrimSpace(string(content))
	if key == "" {
		return "", errors.New("--metal-api-hmac-file: file is empty")
	}
	return key, nil
}
