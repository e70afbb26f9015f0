// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/notes"
)

const notesFile = "RELEASE-NOTES.md"

func newNotesCommand(o *options) *cobra.Command {
	var unreleased bool
	command := &cobra.Command{
		Use:   "notes",
		Short: "Write the notes of a release, from its section of CHANGELOG.md",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			text, err := releaseNotes(o, unreleased)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(o.output, 0o755); err != nil {
				return err
			}
			file := filepath.Join(o.output, notesFile)
			fmt.Fprintln(command.OutOrStdout(), file)
			return os.WriteFile(file, []byte(text), 0o644)
		},
	}
	command.Flags().BoolVar(&unreleased, "unreleased", false, "take the section Unreleased if the version has none")
	return command
}

// releaseNotes returns the notes of the version, or, if unreleased says so and it has
// none, of what is unreleased.
func releaseNotes(o *options, unreleased bool) (string, error) {
	changelog, err := os.ReadFile(filepath.Join(o.source, "CHANGELOG.md"))
	if err != nil {
		return "", err
	}
	text, err := notes.For(string(changelog), o.stamp.Version, o.stamp.Version)
	if errors.Is(err, notes.ErrNoSection) {
		if unreleased {
			return notes.For(string(changelog), notes.Unreleased, o.stamp.Version)
		}
		return "", fmt.Errorf("%w; make it with: bin/release changelog --tag %s", err, o.stamp.Version)
	}
	return text, err
}

func newChangelogCommand(o *options) *cobra.Command {
	var date string
	command := &cobra.Command{
		Use:   "changelog",
		Short: "Turn the section Unreleased of CHANGELOG.md into that of the version",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			day := time.Now().UTC()
			if date != "" {
				var err error
				if day, err = time.Parse(time.DateOnly, date); err != nil {
					return fmt.Errorf("--date: invalid date %q: must be a day such as 2026-11-29", date)
				}
			}
			file := filepath.Join(o.source, "CHANGELOG.md")
			changelog, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			cut, err := notes.Cut(string(changelog), o.stamp.Version, day)
			if err != nil {
				return err
			}
			fmt.Fprintf(command.OutOrStdout(), "%s: what was under Unreleased is under %s\n", file, o.stamp.Version)
			return os.WriteFile(file, []byte(cut), 0o644)
		},
	}
	command.Flags().StringVar(&date, "date", "", "day of the release, such as 2026-11-29 (default today)")
	return command
}
