// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestRoutes_EachIsFoundAndNoOther(t *testing.T) {
	t.Parallel()
	for i := range routes {
		r := &routes[i]
		found, id, err := find(r.method, strings.ReplaceAll(r.path, "{}", "some-id"))
		require.NoError(t, err)
		assert.Same(t, r, found)
		assert.Equal(t, strings.Contains(r.path, "{}"), id == "some-id")
		assert.NotEmpty(t, r.access)
	}
	for _, path := range []string{"", "v1", "v1/machine/a/b", "v1/machine/", "v2/machine", "v1/machine/a/ipmi", "v1/project", "v1/ip/free/a/b"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut} {
			_, _, err := find(method, path)
			require.Error(t, err, "%s %s", method, path)
		}
	}
}

// No answer has a field that may hold a secret, or that is others'.
func TestReads_AreGetsAndSearches(t *testing.T) {
	t.Parallel()
	for _, r := range routes {
		path := strings.ReplaceAll(r.path, "{}", "x")
		assert.Equal(t, r.access != writes && r.access != refused, Reads(r.method, "/"+path), "%s %s", r.method, r.path)
	}
	assert.True(t, Reads(http.MethodGet, "v1/unknown"))
	assert.False(t, Reads(http.MethodPost, "v1/unknown"))
	assert.False(t, Reads("", "v1/ip/find"))
}

func TestAnswers_HaveNoSecretFields(t *testing.T) {
	t.Parallel()
	var check func(kind reflect.Type)
	check = func(kind reflect.Type) {
		for kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Slice {
			kind = kind.Elem()
		}
		if kind.Kind() != reflect.Struct || kind == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range kind.NumField() {
			field := kind.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			assert.True(t, name != "" || field.Anonymous, "%s.%s has no name", kind, field.Name)
			for _, secret := range []string{"user_data", "password", "ipmi", "vpn", "console", "mac_address"} {
				assert.NotContains(t, name, secret, "%s.%s", kind, field.Name)
			}
			check(field.Type)
		}
	}
	for _, answer := range []any{machineAnswer{}, ipAnswer{}, networkAnswer{}, sizeAnswer{}, imageAnswer{}, partitionAnswer{}} {
		check(reflect.TypeOf(answer))
	}
}

func TestErrors_HaveTheStatusOfTheirKind(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
	}{
		{notFound("ip", "x"), 404},
		{&metal.Error{Kind: metal.Refused, Status: 422}, 422},
		{&metal.Error{Kind: metal.Refused}, 422},
		{&metal.Error{Kind: metal.NotFound}, 404},
		{&metal.Error{Kind: metal.Conflict}, 409},
		{&metal.Error{Kind: metal.Busy}, 503},
		{&metal.Error{Kind: metal.Uncertain}, 503},
		{&metal.Error{Kind: metal.Unavailable}, 503},
		// The server's credential, and not the client's.
		{&metal.Error{Kind: metal.Unavailable, Status: 403, Message: "not member"}, 503},
		{assert.AnError, 500},
	} {
		status, message := statusOf(test.err)
		assert.Equal(t, test.status, status, "%v", test.err)
		assert.NotContains(t, message, "not member")
	}
}

func TestLimits_AreOfOneCluster(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	limits := newLimits(clock)
	rose := Cluster{NamespacedName: types.NamespacedName{Namespace: "a", Name: "rose"}}
	lily := Cluster{NamespacedName: types.NamespacedName{Namespace: "a", Name: "lily"}}
	for range writeBurst {
		require.NoError(t, limits.take(rose, true))
	}
	err := limits.take(rose, true)
	status, message := statusOf(err)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Contains(t, message, "the limit is 1 per second, with a burst of 30")
	require.NoError(t, limits.take(rose, false), "reads go on")
	for range requestBurst - writeBurst - 2 { // the refused write was a request, too
		require.NoError(t, limits.take(rose, false))
	}
	_, message = statusOf(limits.take(rose, false))
	assert.Contains(t, message, "too many requests for one cluster: the limit is 20 per second, with a burst of 200")
	require.NoError(t, limits.take(lily, true))
	clock.Step(time.Second)
	require.NoError(t, limits.take(rose, true))
	clock.Step(limitsIdle + time.Second)
	require.NoError(t, limits.take(Cluster{NamespacedName: types.NamespacedName{Name: "third"}}, false))
	assert.Len(t, limits.clusters, 1, "what is idle is forgotten")
}

func TestImages_AreFoundByEachField(t *testing.T) {
	t.Parallel()
	image := &metal.Image{ID: "ubuntu-24.04.20250701", Name: "Ubuntu", Features: []string{"machine"}, Classification: "supported"}
	for _, f := range []imageFilter{
		{}, {ID: image.ID}, {Name: "Ubuntu"}, {Features: []string{"machine"}}, {Classification: "supported"}, {OS: "ubuntu"}, {Version: "24.04.20250701"},
	} {
		assert.True(t, f.matches(image), "%+v", f)
	}
	for _, f := range []imageFilter{
		{ID: "ubuntu"}, {Name: "Debian"}, {Features: []string{"firewall"}}, {Classification: "preview"}, {OS: "debian"}, {Version: "24.04"},
	} {
		assert.False(t, f.matches(image), "%+v", f)
	}
}
