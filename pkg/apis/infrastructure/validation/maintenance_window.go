// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"regexp"
	"slices"
	"time"
	// A container's image may lack the database of time zones.
	_ "time/tzdata"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// What the duration of a maintenance window can be.
const (
	minWindow = 15 * time.Minute
	maxWindow = 24 * time.Hour
)

const (
	beginHelp    = "must be a time of day from 00:00 to 23:59, such as 02:30"
	timeZoneHelp = "must be the name of a time zone in the IANA database, such as Europe/Berlin or UTC"
)

var (
	daysOfWeek     = []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	timeOfDay      = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
	timeZoneSyntax = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+/-]*$`)
)

// validateAutoUpdate validates when a firewall is replaced for a newer image. Both may be
// left out.
func validateAutoUpdate(update *infrastructure.FirewallAutoUpdate, path *field.Path) field.ErrorList {
	if update == nil || update.MaintenanceWindow == nil {
		return nil
	}
	window := update.MaintenanceWindow
	path = path.Child("maintenanceWindow")
	errs := validateDays(window.Days, path.Child("days"))
	begin := path.Child("begin")
	if long := tooLong(window.Begin, len("00:00"), begin); long != nil {
		errs = append(errs, long...)
	} else if window.Begin == "" {
		errs = append(errs, field.Required(begin, beginHelp))
	} else if !timeOfDay.MatchString(window.Begin) {
		errs = append(errs, field.Invalid(begin, window.Begin, beginHelp))
	}
	if window.Duration == (metav1.Duration{}) {
		errs = append(errs, field.Required(path.Child("duration"), durationHelp(minWindow, maxWindow)))
	} else {
		errs = append(errs, validateDuration(&window.Duration, minWindow, maxWindow, path.Child("duration"))...)
	}
	return append(errs, validateTimeZone(window.TimeZone, path.Child("timeZone"))...)
}

func validateDays(days []string, path *field.Path) field.ErrorList {
	if errs := tooMany(len(days), len(daysOfWeek), path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	for i, day := range days {
		switch long := tooLong(day, len("Mon"), path.Index(i)); {
		case long != nil:
			errs = append(errs, long...)
		case !slices.Contains(daysOfWeek, day):
			errs = append(errs, field.NotSupported(path.Index(i), day, daysOfWeek))
		case slices.Contains(days[:i], day):
			errs = append(errs, field.Duplicate(path.Index(i), day))
		}
	}
	return errs
}

func validateTimeZone(zone string, path *field.Path) field.ErrorList {
	if errs := tooLong(zone, maxTimeZoneLength, path); errs != nil || zone == "" {
		return errs
	}
	// Local is that of the program that reads it.
	isName := zone != "Local" && timeZoneSyntax.MatchString(zone)
	if isName {
		_, err := time.LoadLocation(zone)
		isName = err == nil
	}
	if !isName {
		return field.ErrorList{field.Invalid(path, zone, timeZoneHelp)}
	}
	return nil
}
