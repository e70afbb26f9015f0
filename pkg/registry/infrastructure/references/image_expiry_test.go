// SPDX-License-Identifier: Apache-2.0

package references

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// expiring has one image, which has an alias.
type expiring struct {
	offers
	expires time.Time
}

func (e expiring) LookupImage(context.Context, string, string) (*metal.Image, []string, error) {
	return &metal.Image{ID: "ubuntu-24.04.20250701", Expires: e.expires}, nil, nil
}

func (e expiring) WithAllowance(ctx context.Context, _ string) context.Context { return ctx }

func TestImage_WarnsOfExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		value, old string
		expires    time.Time
		want       []string
	}{
		"never":       {value: "ubuntu-24.04"},
		"in 31 days":  {value: "ubuntu-24.04", expires: now.AddDate(0, 0, 31)},
		"not changed": {value: "ubuntu-24.04", old: "ubuntu-24.04", expires: now.AddDate(-1, 0, 0)},
		"in 30 days": {value: "ubuntu-24.04.20250701", expires: now.AddDate(0, 0, 30), want: []string{
			`spec.image: image "ubuntu-24.04.20250701" expires on 2026-12-29: metal-stack does not support it after that; see 'kubectl get metalstackimages'`,
		}},
		"expired": {value: "ubuntu-24.04", expires: now, want: []string{
			`spec.image: image "ubuntu-24.04", which is ubuntu-24.04.20250701 now, expired on 2026-11-29: it is installed all the same, but metal-stack does not support it any more; see 'kubectl get metalstackimages'`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var warnings recorder
			v := &Validator{Catalogue: expiring{expires: c.expires}, Projects: projects{"team-a": project}, Clock: clocktesting.NewFakePassiveClock(now)}
			validation := v.Begin(warning.WithWarningRecorder(t.Context(), &warnings), "team-a")
			validation.Image(field.NewPath("spec", "image"), c.value, c.old, Machine)
			require.Empty(t, validation.Errors())
			require.Equal(t, c.want, []string(warnings))
		})
	}
}
