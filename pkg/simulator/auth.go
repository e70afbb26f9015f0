// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/metal-stack/security"
)

const providerTenant = "metal-stack"

// user is one of metal-stack's technical users, known by an HMAC key.
type user struct {
	name, email, tenant string
	groups              []string
	access              access
	mac                 security.HMACAuth
}

// groupsOf name the groups of which a route asks for one (010, 011).
var groupsOf = map[access][]string{
	accessView:  {"k8s_kaas-view", "maas-all-all-view", "k8s_kaas-edit", "maas-all-all-edit", "k8s_kaas-admin", "maas-all-all-admin"},
	accessEdit:  {"k8s_kaas-edit", "maas-all-all-edit", "k8s_kaas-admin", "maas-all-all-admin"},
	accessAdmin: {"k8s_kaas-admin", "maas-all-all-admin"},
}

func newUsers(keys HMACKeys) []user {
	or := func(key, def string) []byte {
		if key == "" {
			return []byte(def)
		}
		return []byte(key)
	}
	mac := func(name string, key []byte, lifetime time.Duration) security.HMACAuth {
		return security.NewHMACAuth(name, key, security.WithLifetime(lifetime))
	}
	return []user{
		{
			name: "Metal-Admin", email: "metal-admin@metal-stack.io", tenant: providerTenant, access: accessAdmin,
			groups: []string{"k8s_kaas-admin", "maas-all-all-admin"},
			mac:    mac("Metal-Admin", or(keys.Admin, DefaultHMAC.Admin), 90*time.Second),
		},
		{
			name: "Metal-Edit", email: "metal-edit@metal-stack.io", tenant: providerTenant, access: accessEdit,
			groups: []string{"k8s_kaas-edit", "maas-all-all-edit"},
			mac:    mac("Metal-Edit", or(keys.Edit, DefaultHMAC.Edit), 30*time.Second),
		},
		{
			name: "Metal-View", email: "metal-view@metal-stack.io", tenant: providerTenant, access: accessView,
			groups: []string{"k8s_kaas-view", "maas-all-all-view"},
			mac:    mac("Metal-View", or(keys.View, DefaultHMAC.View), 30*time.Second),
		},
	}
}

// ChangeKeys is a metal-api that was started again with other keys; empty ones
// become DefaultHMAC's. There is one key a user, so that the old one is refused
// from now on.
func (s *Simulator) ChangeKeys(keys HMACKeys) {
	users := newUsers(keys)
	s.users.Store(&users)
}

func (u user) may(a access) bool { return u.access >= a }

func forbidden(a access) error {
	return withStatus(http.StatusForbidden, fmt.Errorf("you are not member in one of %v", groupsOf[a]))
}

// bareError is a body that is a plain JSON string.
type bareError struct{ msg string }

func (e *bareError) Error() string { return e.msg }

// authenticate checks the HMAC (docs/metal-api.md, Q1 and Q2; 004-012). Nobody is the user
// of no tenant, and only health, liveliness and version serve them.
func (s *Simulator) authenticate(r *http.Request) (user, error) {
	nobody := withStatus(http.StatusForbidden, &bareError{"tenant  not allowed"})
	for _, open := range []string{"liveliness", "health", "version"} {
		if strings.HasSuffix(r.URL.Path, open) && r.Header.Get("Authorization") == "" {
			return user{}, nil
		}
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return user{}, withStatus(http.StatusForbidden, fmt.Errorf("error parsing token: %w", badToken(token)))
	}
	for _, u := range *s.users.Load() {
		if u.mac.Type != scheme {
			continue
		}
		if _, err := u.mac.User(r); err != nil {
			return user{}, withStatus(http.StatusForbidden, err)
		}
		return u, nil
	}
	return user{}, nobody
}

// badToken is why a bearer token is none: the installations that this is
// modelled on have no token issuer.
func badToken(token string) error {
	head, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return err
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	return errors.New("unknown issuer")
}
