// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"strings"
)

// report says what was run and what came of it.
func (r *run) report() {
	var b strings.Builder
	resumes, relists := 0, 0
	for _, w := range r.watchers {
		resumes += w.resumes
		relists += w.relists
	}
	_, writes := r.deliveries.missed(nil)
	fmt.Fprintf(&b, "\n=== %d objects, %d watchers, %d writers, %.0f writes a second wanted, for %s; seed %d\n",
		*objects, *watchers, *writers, *writeRate, *duration, *seed)
	fmt.Fprintf(&b, "\n%d acknowledged writes (%.1f a second); %d claims turned into metal and back, or on their way.\n",
		writes, float64(writes)/duration.Seconds(), len(r.uids))
	fmt.Fprintf(&b, "Watches were resumed %d times, and began anew %d times.\n", resumes, relists)
	fmt.Fprintf(&b, "\nFrom a write's acknowledgement to its event at a watcher that reads:\n  without slow watchers: %s\n  with %d slow watchers:  %s\n",
		&r.deliveries.delay[0], *slow, &r.deliveries.delay[1])
	fmt.Fprintf(&b, "\nFaults of the metal-api:\n  %s\n", strings.Join(r.faultPhases, "\n  "))
	fmt.Fprintf(&b, "\n%s\n%s", r.outcomes.table(), r.samples.table())
	r.t.Log(b.String())
}
