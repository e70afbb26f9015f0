package options

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// HMACVariable is the environment variable that may hold the credential.
const HMACVariable = "METAL_API_HMAC"

// Metal says where the metal-api is, as whom it is talked to, and how much.
type Metal struct {
	URL      string
	HMACFile string
	HMACType string

	Budget        float64
	SweepInterval time.Duration
	ReadLimit     time.Duration
}

// NewMetal returns the defaults.
func NewMetal() *Metal {
	return &Metal{
		HMACType:      metal.AuthEdit,
		Budget:        metal.DefaultBudget,
		SweepInterval: metal.DefaultSweepInterval,
		ReadLimit:     metal.DefaultReadLimit,
	}
}

// AddFlags adds the flags. There is none for the credential itself: a command
// line can be read by everybody on the machine.
func (o *Metal) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.URL, "metal-api-url", o.URL, "URL of the metal-api with its base path, without /v1: https://api.example.org/metal, say.")
	fs.StringVar(&o.HMACFile, "metal-api-hmac-file", o.HMACFile, "File that holds the metal-api's HMAC key. It is read again when it changes. "+
		"Without it, the environment variable "+HMACVariable+" holds the key.")
	fs.StringVar(&o.HMACType, "metal-api-hmac-type", o.HMACType, "Technical user that the key belongs to: "+metal.AuthEdit+", which is enough, or "+metal.AuthAdmin+".")
	fs.Float64Var(&o.Budget, "metal-budget", o.Budget, "Part of the time, from 0.001 to 1, in which the metal-api may be busy answering this server's looks. "+
		"A greater one makes changes show sooner in a large installation. It is that of all replicas together: a fifth of it goes to the one that stands by.")
	fs.DurationVar(&o.SweepInterval, "sweep-interval", o.SweepInterval, "Least time between two looks at all machines. Within the budget it may take longer.")
	fs.DurationVar(&o.ReadLimit, "read-limit", o.ReadLimit, "Longest time that a get or list waits for the metal-api. After that it answers what is known, with a warning.")
}

// Validate returns what is wrong.
func (o *Metal) Validate() []error {
	var errs []error
	if u, err := url.Parse(o.URL); o.URL == "" || err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("--metal-api-url must be the URL of the metal-api, such as https://api.example.org/metal, and is %q", o.URL))
	}
	if o.HMACType != metal.AuthEdit && o.HMACType != metal.AuthAdmin {
		errs = append(errs, fmt.Errorf("--metal-api-hmac-type must be %s or %s, and is %q", metal.AuthEdit, metal.AuthAdmin, o.HMACType))
	}
	if o.Budget < 0.001 || o.Budget > 1 {
		errs = append(errs, fmt.Errorf("--metal-budget must be from 0.001 to 1, and is %g", o.Budget))
	}
	if o.SweepInterval <= 0 {
		errs = append(errs, fmt.Errorf("--sweep-interval must be positive, and is %s", o.SweepInterval))
	}
	if o.ReadLimit <= 0 {
		errs = append(errs, fmt.Errorf("--read-limit must be positive, and is %s", o.ReadLimit))
	}
	if o.HMACFile == "" && os.Getenv(HMACVariable) == "" {
		errs = append(errs, fmt.Errorf("the metal-api's key is missing: name a file that holds it with --metal-api-hmac-file, or set %s", HMACVariable))
	}
	return errs
}

// HMAC reads the credential. No error of it quotes what was read.
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
		return "", errors.New("--metal-api-hmac-file: the file is empty")
	}
	return key, nil
}
