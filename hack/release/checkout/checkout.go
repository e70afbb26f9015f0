// SPDX-License-Identifier: Apache-2.0

// Package checkout reads which commit a release is made from, and what about a checkout
// differs from that of a tag.
package checkout

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State is that of a checkout.
type State struct {
	// Commit is the hash of HEAD, and Time when it was committed.
	Commit string
	Time   time.Time
	// Tags are those of HEAD.
	Tags []string
	// Changed are the files that are not as in HEAD, or not in it.
	Changed []string
}

// Read returns the state of the checkout in a directory.
func Read(ctx context.Context, directory string) (State, error) {
	var s State
	head, err := git(ctx, directory, "log", "-1", "--format=%H %ct")
	if err != nil {
		return s, err
	}
	hash, seconds, _ := strings.Cut(strings.TrimSpace(head), " ")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return s, fmt.Errorf("git log: time of %s: %w", hash, err)
	}
	s.Commit, s.Time = hash, time.Unix(at, 0)
	tags, err := git(ctx, directory, "tag", "--points-at", "HEAD")
	if err != nil {
		return s, err
	}
	s.Tags = strings.Fields(tags)
	changed, err := git(ctx, directory, "status", "--porcelain")
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(changed) {
		s.Changed = append(s.Changed, strings.TrimSpace(line[min(3, len(line)):]))
	}
	return s, nil
}

// Differences says what about a checkout is not as for a release of a tag. It returns
// none for one that the release can be made from.
func (s State) Differences(tag string) []string {
	var differences []string
	if !slices.Contains(s.Tags, tag) {
		text := "it has no tag"
		if len(s.Tags) > 0 {
			text = "its tags are " + strings.Join(s.Tags, ", ")
		}
		differences = append(differences, fmt.Sprintf("%s is not a tag of HEAD (%.12s): %s", tag, s.Commit, text))
	}
	if n := len(s.Changed); n > 0 {
		names := s.Changed[:min(n, 3)]
		text := strings.Join(names, ", ")
		if n > len(names) {
			text += fmt.Sprintf(" and %d more", n-len(names))
		}
		differences = append(differences, "files are not as in HEAD: "+text)
	}
	return differences
}

func git(ctx context.Context, directory string, arguments ...string) (string, error) {
	// Whatever the user's own configuration of git has it print, and leave out.
	settings := []string{"-C", directory, "-c", "log.showSignature=false", "-c", "status.showUntrackedFiles=normal"}
	command := exec.CommandContext(ctx, "git", append(settings, arguments...)...)
	output, err := command.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("a release is made from a checkout of git: git %s: %w", strings.Join(arguments, " "), err)
	}
	return string(output), nil
}
