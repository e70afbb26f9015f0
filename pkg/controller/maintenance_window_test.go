// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestFindWindow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		days     []string
		begin    string
		duration time.Duration
		zone     string
		now      string
		open     bool
		next     string
	}{
		"before it":                          {nil, "02:30", time.Hour, "", "2026-01-01T02:29:59Z", false, "2026-01-01T02:30:00Z"},
		"at its begin":                       {nil, "02:30", time.Hour, "", "2026-01-01T02:30:00Z", true, "2026-01-02T02:30:00Z"},
		"at its end":                         {nil, "02:30", time.Hour, "", "2026-01-01T03:30:00Z", false, "2026-01-02T02:30:00Z"},
		"over midnight":                      {nil, "23:00", 3 * time.Hour, "", "2026-01-02T01:59:59Z", true, "2026-01-02T23:00:00Z"},
		"over midnight, after it":            {nil, "23:00", 3 * time.Hour, "", "2026-01-02T02:00:00Z", false, "2026-01-02T23:00:00Z"},
		"over midnight, begun on its day":    {[]string{"Sat"}, "23:00", 3 * time.Hour, "", "2026-01-04T01:00:00Z", true, "2026-01-10T23:00:00Z"},
		"over midnight, begun the day after": {[]string{"Sun"}, "23:00", 3 * time.Hour, "", "2026-01-04T01:00:00Z", false, "2026-01-04T23:00:00Z"},
		"next week":                          {[]string{"Thu"}, "02:30", time.Hour, "", "2026-01-01T04:00:00Z", false, "2026-01-08T02:30:00Z"},
		"all day":                            {nil, "12:00", 24 * time.Hour, "", "2026-01-01T11:59:59Z", true, "2026-01-01T12:00:00Z"},
		"of a zone":                          {nil, "02:30", time.Hour, "Europe/Berlin", "2026-01-01T01:30:00Z", true, "2026-01-02T01:30:00Z"},
		"days of a zone":                     {[]string{"Fri"}, "00:30", time.Hour, "Europe/Berlin", "2026-01-01T23:45:00Z", true, "2026-01-08T23:30:00Z"},
		"days of a zone in the west":         {[]string{"Thu"}, "20:00", 4 * time.Hour, "America/Los_Angeles", "2026-01-02T05:00:00Z", true, "2026-01-09T04:00:00Z"},
		"of a zone in summer":                {nil, "02:30", time.Hour, "Europe/Berlin", "2026-07-01T00:30:00Z", true, "2026-07-02T00:30:00Z"},
		"clocks go forward":                  {nil, "01:30", 3 * time.Hour, "Europe/Berlin", "2026-03-29T03:29:59Z", true, "2026-03-29T23:30:00Z"},
		"clocks go forward, after it":        {nil, "01:30", 3 * time.Hour, "Europe/Berlin", "2026-03-29T03:30:00Z", false, "2026-03-29T23:30:00Z"},
		"clocks go back":                     {nil, "01:30", 3 * time.Hour, "Europe/Berlin", "2026-10-25T02:29:59Z", true, "2026-10-26T00:30:00Z"},
		"clocks go back, after it":           {nil, "01:30", 3 * time.Hour, "Europe/Berlin", "2026-10-25T02:30:00Z", false, "2026-10-26T00:30:00Z"},
		"a begin that is left out":           {nil, "02:30", time.Hour, "Europe/Berlin", "2026-03-28T12:00:00Z", false, "2026-03-29T01:30:00Z"},
		"a day without midnight":             {[]string{"Sun"}, "00:00", time.Hour, "America/Santiago", "2026-09-05T12:00:00Z", false, "2026-09-06T04:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, err := time.Parse(time.RFC3339, c.now)
			require.NoError(t, err)
			open, next, err := findWindow(&v1alpha4.MaintenanceWindow{
				Days: c.days, Begin: c.begin, Duration: metav1.Duration{Duration: c.duration}, TimeZone: c.zone,
			}, now)
			require.NoError(t, err)
			require.Equal(t, c.open, open)
			require.Equal(t, c.next, next.UTC().Format(time.RFC3339))
		})
	}
}

// The server validates them; what an earlier version let through is never open.
func TestFindWindow_OfWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, w := range []v1alpha4.MaintenanceWindow{
		{Begin: "02:30", TimeZone: "Europe/Atlantis"}, {Begin: "25:00"}, {Begin: ""}, {Begin: "02:30", Days: []string{"Monday"}},
	} {
		open, _, err := findWindow(&w, rollTime)
		require.Error(t, err)
		require.False(t, open)
	}
}
