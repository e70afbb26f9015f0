// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// What a projection of a machine costs that runs, as nearly all of a fleet do.
func BenchmarkProject(b *testing.B) {
	f := newFixture(b)
	m := phonedHome()
	f.facts.machines[m.ID] = m
	projector, record := NewMachineProjector(f.source), f.allocated(m)
	shown := projector.Project(record, nil).(*infrastructure.MetalStackMachine)
	b.ReportAllocs()
	for b.Loop() {
		projector.Project(record, shown)
	}
}
