// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// metal-ccm makes labels of a machine's tags: one that is invalid would keep the
// Node from getting any.
func FuzzLabelValue_IsValid(f *testing.F) {
	for _, s := range []string{"", "node-1", "a.b", "UPPER_lower.9", "spaces and ümläute", "-", "---", "x-", strings.Repeat("a-very-long-name.", 15)} {
		f.Add(s, "other")
	}
	p := &Protocol{opts: Options{ManagementCluster: managementCluster}}
	f.Fuzz(func(t *testing.T, s, other string) {
		value := LabelValue(s)
		assert.Empty(t, validation.IsValidLabelValue(value), "%q of %q", value, s)
		assert.Equal(t, value, LabelValue(value), "what is valid stays as it is")
		host := hostname(s)
		if s != "" {
			assert.Empty(t, validation.IsDNS1123Label(host), "%q of %q", host, s)
			assert.Equal(t, host, hostname(host))
		}
		if s != other && value != s && LabelValue(other) != other {
			assert.NotEqual(t, value, LabelValue(other), "%q and %q", s, other)
		}
		id := identity{uid: types.UID(s), namespace: other, name: s, cluster: other}
		tags := p.identityTags(id)
		uid, found := metal.TagValue(tags, metal.TagUID)
		assert.True(t, found)
		assert.Equal(t, value, uid, "it is found by what it was tagged with")
		for _, tag := range tags {
			assert.True(t, isReservedTag(tag), "%q is reserved", tag)
		}
	})
}
