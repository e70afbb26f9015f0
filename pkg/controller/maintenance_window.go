// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// findWindow returns whether a maintenance window is open, and when it begins next. Its days
// and its begin are those of the wall clock, and its duration is that of a clock that is
// never changed. A begin that a change of the clocks leaves out is later by that change.
func findWindow(w *v1alpha4.MaintenanceWindow, now time.Time) (open bool, next time.Time, err error) {
	zone, err := time.LoadLocation(cmp.Or(w.TimeZone, "UTC"))
	if err != nil {
		return false, time.Time{}, err
	}
	at, err := time.Parse("15:04", w.Begin)
	if err != nil {
		return false, time.Time{}, fmt.Errorf("begin %q is not a time of day such as 02:30", w.Begin)
	}
	today := now.In(zone)
	// It lasts for 24 hours at most, so that one that began the day before may be open.
	for day := -2; day <= 8; day++ {
		begin := time.Date(today.Year(), today.Month(), today.Day()+day, at.Hour(), at.Minute(), 0, 0, zone)
		const halfADay = 12 * 60
		if early := (minuteOfDay(at) - minuteOfDay(begin) + 2*halfADay) % (2 * halfADay); early <= halfADay {
			// There is no such time on that day.
			begin = begin.Add(time.Duration(early) * time.Minute)
		}
		weekday := time.Date(today.Year(), today.Month(), today.Day()+day, 12, 0, 0, 0, zone).Weekday().String()[:3]
		if len(w.Days) > 0 && !slices.Contains(w.Days, weekday) {
			continue
		}
		if begin.After(now) {
			return open, begin, nil
		}
		open = open || now.Before(begin.Add(w.Duration.Duration))
	}
	return open, time.Time{}, fmt.Errorf("days %q name no day of the week", w.Days)
}

func minuteOfDay(t time.Time) int { return t.Hour()*60 + t.Minute() }
