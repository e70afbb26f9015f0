// SPDX-License-Identifier: Apache-2.0

// Package notes makes the notes of a release from CHANGELOG.md, and the section of a
// release from what is under Unreleased.
package notes

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Unreleased is the section of what no release has yet.
const Unreleased = "Unreleased"

const (
	repository = "https://github.com/metal-stack/metalstack-apiserver"
	// limit is that of the text of a release on GitHub.
	limit = 125_000
	// none is what CHANGELOG.md says before the first release.
	none = " There has been no release yet."
)

// ErrNoSection is that CHANGELOG.md does not have the section of a release.
var ErrNoSection = errors.New("no such section")

// section is a part of the lines of a changelog, under a heading of level 2.
type section struct {
	title string
	// heading is the line of the heading, end the one behind the section's last.
	heading, end int
}

// version returns the title without the date.
func (s section) version() string { return strings.TrimSuffix(strings.Fields(s.title + " -")[0], ":") }

// sections finds the headings of level 2 that are not in a block of code.
func sections(lines []string) []section {
	var found []section
	fence := ""
	for i, line := range lines {
		text := strings.TrimLeft(line, " ")
		switch {
		case fence != "":
			if strings.HasPrefix(text, fence) {
				fence = ""
			}
		case strings.HasPrefix(text, "```"), strings.HasPrefix(text, "~~~"):
			fence = text[:3]
		case strings.HasPrefix(line, "## "):
			if len(found) > 0 {
				found[len(found)-1].end = i
			}
			found = append(found, section{title: strings.TrimSpace(line[3:]), heading: i, end: len(lines)})
		}
	}
	return found
}

func find(lines []string, version string) (section, error) {
	var match []section
	var titles []string
	for _, s := range sections(lines) {
		titles = append(titles, s.title)
		if s.version() == version {
			match = append(match, s)
		}
	}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		return section{}, fmt.Errorf("%w: CHANGELOG.md has no section %s, only: %s", ErrNoSection, version, strings.Join(titles, ", "))
	default:
		return section{}, fmt.Errorf("CHANGELOG.md has %d sections %s: keep one", len(match), version)
	}
}

// For returns the notes of a release: what CHANGELOG.md has under title, which is the
// release's version or Unreleased, with links that work outside of the repository.
func For(changelog, title, tag string) (string, error) {
	lines := strings.Split(changelog, "\n")
	s, err := find(lines, title)
	if err != nil {
		return "", err
	}
	body := strings.TrimSpace(strings.Join(lines[s.heading+1:s.end], "\n"))
	if body == "" {
		return "", fmt.Errorf("section %s of CHANGELOG.md is empty: write what changed for users and operators", title)
	}
	text := absolute(body, tag) + "\n\n## Install\n\n" + install(tag)
	if len(text) > limit {
		return "", fmt.Errorf("section %s of CHANGELOG.md makes notes of %d bytes: GitHub takes %d at most", title, len(text), limit)
	}
	return text, nil
}

func install(tag string) string {
	return fmt.Sprintf("```sh\nkubectl apply -f %s/releases/download/%s/install.yaml\n```\n\n"+
		"[Operations](%s/blob/%s/docs/operations.md#install) has the steps before and after it, and the other ways to install it. "+
		"[Verify a release](%s/blob/%s/docs/security.md#verify-a-release) says how signatures and checksums are checked.\n",
		repository, tag, repository, tag, repository, tag)
}

// relative matches the target of a link that is a path in the repository.
var relative = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// absolute makes links to files of the repository links to those of a tag.
func absolute(text, tag string) string {
	return relative.ReplaceAllStringFunc(text, func(link string) string {
		target := link[2 : len(link)-1]
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			return link
		}
		if strings.HasPrefix(target, "#") {
			target = "CHANGELOG.md" + target
		}
		return "](" + repository + "/blob/" + tag + "/" + strings.TrimPrefix(target, "/") + ")"
	})
}

// Cut returns a changelog in which what was unreleased is the section of a version, and
// nothing is unreleased.
func Cut(changelog, version string, date time.Time) (string, error) {
	lines := strings.Split(changelog, "\n")
	if _, err := find(lines, version); !errors.Is(err, ErrNoSection) {
		if err == nil {
			err = fmt.Errorf("CHANGELOG.md already has a section %s", version)
		}
		return "", err
	}
	s, err := find(lines, Unreleased)
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(strings.Join(lines[s.heading+1:s.end], "")) == "" {
		return "", fmt.Errorf("section %s of CHANGELOG.md is empty: there is nothing to release", Unreleased)
	}
	var out []string
	for _, line := range lines[:s.heading] {
		out = append(out, strings.TrimSuffix(line, none))
	}
	out = append(out, "## "+Unreleased, "", "## "+version+" - "+date.Format(time.DateOnly))
	return strings.Join(append(out, lines[s.heading+1:]...), "\n"), nil
}
