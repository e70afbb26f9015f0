// SPDX-License-Identifier: Apache-2.0

package baseurl

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var rules = Rules{Name: "--url", Schemes: []string{"http", "https"}, Example: "https://api.example.org/metal", WithoutUser: "a token is used"}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, message := range map[string]string{
		"http://a.example.org":                "",
		"https://10.0.0.1:6443/":              "",
		"https://[2001:db8::1]:6443/metal":    "",
		"HTTPS://a.example.org":               "",
		"":                                    `--url must begin with http:// or https:// and a host, such as https://api.example.org/metal, got ""`,
		"ftp://a.example.org/x":               `must begin with http:// or https:// and a host, such as https://api.example.org/metal, got "ftp://a.example.org/x"`,
		"a.example.org:6443":                  `must begin with http:// or https:// and a host, such as https://api.example.org/metal, got "a.example.org:6443"`,
		"a.example.org/metal":                 `got "a.example.org/metal"`,
		"https://":                            "must begin with http:// or https:// and a host",
		"https://:6443":                       "must begin with http:// or https:// and a host",
		"https://a.example.org/b?x=secret":    `must have no query and no fragment, such as https://api.example.org/metal, got one after "https://a.example.org/b"`,
		"https://a.example.org?":              "must have no query and no fragment",
		"https://a.example.org#":              "must have no query and no fragment",
		"https://a.example.org/b#secret":      `got one after "https://a.example.org/b"`,
		"https://me:secret@a.example.org/b":   `must have no user and no password, got one in "https://a.example.org/b", such as https://api.example.org/metal: a token is used`,
		"https://me@a.example.org/b?x=secret": `must have no user and no password, got one in "https://a.example.org/b"`,
		"https://@a.example.org":              "must have no user and no password",
		"https://a.example.org:secret":        "must be a URL, such as https://api.example.org/metal, and cannot be parsed",
		"https://a.example.org:65535":         "",
		"https://a.example.org:65536":         "must have a port from 1 to 65535 or none, such as https://api.example.org/metal",
		"https://a.example.org:0/b":           "must have a port from 1 to 65535 or none",
		"https://me:secret@a b\x7f":           "--url must be a URL, such as https://api.example.org/metal",
		"https://me:sec?ret@a.example.org":    "must be a URL",
		"https://me:sec/secret@a.example.org": "must be a URL",
		// Schemes and slashes that were forgotten.
		"me:secret@a.example.org":         "must begin with http:// or https:// and a host",
		"//me:secret@a.example.org":       "must have no user and no password",
		"https:me:secret@a.example.org":   "must begin with http:// or https:// and a host",
		"https:/me:secret@a.example.org":  "must begin with http:// or https:// and a host",
		"https:///me:secret@a.example.or": "must begin with http:// or https:// and a host",
		"secret:me@a.example.org":         `got "xxxxx"`,
		"a.example.org:secret":            `got "xxxxx"`,
		"a.example.org:6443/metal":        `got "a.example.org:6443/metal"`,
		// Passwords that begin as a port does.
		"https://secret:12/34@a.example.org":   "must have no user and no password, and no @, such as",
		"https://secret:12/34@a.example.org?x": "must have no user and no password, and no @, such as",
		"https://secret:12?34@a.example.org":   "must have no user and no password, and no @, such as",
		"https://secret:#34@a.example.org":     "must have no user and no password, and no @, such as",
		"ftp://secret:12/34@a.example.org":     `got "xxxxx"`,
	} {
		u, err := rules.Parse(text)
		if message == "" {
			require.NoError(t, err, text)
			assert.NotEmpty(t, u.Host, text)
			continue
		}
		require.ErrorContains(t, err, message, text)
		assert.NotContains(t, err.Error(), "secret", text)
		assert.NotContains(t, err.Error(), "65536", text)
		assert.Nil(t, u, text)
	}
}
