// SPDX-License-Identifier: Apache-2.0

// Package baseurl validates URLs to which a program adds a path, as its flags name them. No
// error may quote a user, a password, a query or a fragment: each may hold a secret.
package baseurl

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Rules are what a URL must be.
type Rules struct {
	// Name is the flag or the option that has the URL, for errors.
	Name string
	// Schemes are those that are allowed, such as https.
	Schemes []string
	// Example is a URL that is allowed.
	Example string
	// WithoutUser says how clients authenticate instead of with a user and a password.
	WithoutUser string
}

// Parse returns a URL that keeps the rules, or an error that says which one it breaks.
func (r Rules) Parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// It quotes the text.
		return nil, fmt.Errorf("%s must be a URL, such as %s, and cannot be parsed", r.Name, r.Example)
	case u.User != nil:
		return nil, fmt.Errorf("%s must have no user and no password, got one in %q, such as %s: %s", r.Name, Redact(u), r.Example, r.WithoutUser)
	case !slices.Contains(r.Schemes, u.Scheme) || u.Hostname() == "":
		return nil, fmt.Errorf("%s must begin with %s:// and a host, such as %s, got %q", r.Name, strings.Join(r.Schemes, ":// or "), r.Example, Redact(u))
	case !hasValidPort(u):
		// A key that was taken for a port may have digits only.
		return nil, fmt.Errorf("%s must have a port from 1 to 65535 or none, such as %s", r.Name, r.Example)
	case isAmbiguous(u):
		return nil, fmt.Errorf("%s must have no user and no password, and no @, such as %s: %s", r.Name, r.Example, r.WithoutUser)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#"):
		return nil, fmt.Errorf("%s must have no query and no fragment, such as %s, got one after %q", r.Name, r.Example, Redact(u))
	}
	return u, nil
}

// hasValidPort returns whether a URL has no port, or one that can be connected to.
func hasValidPort(u *url.URL) bool { return u.Port() == "" || isPort(u.Port()) }

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port != 0
}

// withheld is what is shown of a URL of which any part may be a secret.
const withheld = "xxxxx"

// Redact returns of a URL what holds no secret.
func Redact(u *url.URL) string {
	// Without a scheme, host:port is a scheme and what follows it.
	port, _, _ := strings.Cut(u.Opaque, "/")
	if isAmbiguous(u) || u.Opaque != "" && !isPort(port) {
		return withheld
	}
	shown := url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return shown.String()
}

// isAmbiguous returns whether what precedes an @ may be a user and a password that were taken for
// other parts: of a URL without //, or with one / too many, or whose password has a / or a ?.
func isAmbiguous(u *url.URL) bool {
	return strings.Contains(u.Opaque+u.Path+u.RawQuery+u.Fragment, "@")
}
