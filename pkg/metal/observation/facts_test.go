// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/randfill"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestSameMachine_IgnoresHeartbeatOnly(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(0).NumElements(1, 3)
	var m metal.Machine
	fill.Fill(&m)
	same := m
	same.LastEventTime = m.LastEventTime.Add(time.Minute)
	require.True(t, sameMachine(&m, &same))
	fields := reflect.TypeFor[metal.Machine]()
	for i := range fields.NumField() {
		if fields.Field(i).Name == "LastEventTime" {
			continue
		}
		other := m
		f := reflect.ValueOf(&other).Elem().Field(i)
		f.SetZero()
		if reflect.ValueOf(m).Field(i).IsZero() {
			f.SetBool(true)
		}
		require.False(t, sameMachine(&m, &other), fields.Field(i).Name)
	}
	require.False(t, sameMachine(&m, nil))
	require.True(t, sameMachine(nil, nil))
}
