// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/blang/semver/v4"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) constraintList(c *call) (int, any, error) {
	return many(s, c, "sizeimageconstraints", func(k *catalogue) []*wire.SizeImageConstraint { return k.constraints })
}

func (s *Simulator) constraintGet(c *call) (int, any, error) {
	return one(s, c, "sizeimageconstraint", func(k *catalogue) map[string]*wire.SizeImageConstraint {
		m := map[string]*wire.SizeImageConstraint{}
		for _, sc := range k.constraints {
			m[sc.ID] = sc
		}
		return m
	})
}

// constraintCreate takes images under constraints only: elsewhere they are ignored (2/392).
func (s *Simulator) constraintCreate(c *call) (int, any, error) {
	sc, err := decode[wire.SizeImageConstraint](c)
	if err != nil {
		return 0, nil, err
	}
	for _, os := range slices.Sorted(maps.Keys(sc.Constraints.Images)) {
		if os == "*" {
			return 0, nil, badRequest(errors.New("just '*' is not allowed as image os constraint"))
		}
		if _, err := parseVersions(sc.Constraints.Images[os]); err != nil {
			return 0, nil, badRequest(err)
		}
	}
	s.lock()
	defer s.unlock()
	if s.cat.constraint(sc.ID) != nil {
		return 0, nil, conflict("cannot create sizeimageconstraint in database, entity already exists: %s", sc.ID)
	}
	next := s.cat.copy()
	next.constraints = append(next.constraints, &sc)
	s.cat = next
	return http.StatusCreated, &sc, nil
}

func (s *Simulator) constraintDelete(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	sc := s.cat.constraint(c.param(0))
	if sc == nil {
		return 0, nil, notFound("no sizeimageconstraint with id %q found", c.param(0))
	}
	next := s.cat.copy()
	next.constraints = slices.DeleteFunc(next.constraints, func(o *wire.SizeImageConstraint) bool { return o == sc })
	s.cat = next
	return http.StatusOK, sc, nil
}

// constraintTry answers whether an image fits a size (2/440-443, 643-646).
func (s *Simulator) constraintTry(c *call) (int, any, error) {
	req, err := decode[wire.SizeImageTryRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	if _, ok := s.cat.sizes[req.Size]; !ok {
		return 0, nil, notFound("no size with id %q found", req.Size)
	}
	image, err := s.resolveImage(c, req.Image)
	if err != nil {
		return 0, nil, err
	}
	if err := s.cat.checkConstraint(req.Size, image.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct{}{}, nil
}

// constraint is that of a size, or nil.
func (c *catalogue) constraint(size string) *wire.SizeImageConstraint {
	if i := slices.IndexFunc(c.constraints, func(sc *wire.SizeImageConstraint) bool { return sc.ID == size }); i >= 0 {
		return c.constraints[i]
	}
	return nil
}

// checkConstraint refuses an image that does not fit a size. Operating systems that are not named
// are not restricted.
func (c *catalogue) checkConstraint(size, image string) error {
	sc := c.constraint(size)
	os, version, err := osAndVersion(image)
	if sc == nil || err != nil {
		return nil
	}
	constraint, named := sc.Constraints.Images[os]
	if !named {
		return nil
	}
	versions, err := parseVersions(constraint)
	if err == nil && !versions.include(version) {
		return fmt.Errorf("given size:%s with image:%s-%s does violate image constraint:%s %s", size, os, version, os, versions)
	}
	return nil
}

// versionRange is a comparison with a version; without an operator it is any.
type versionRange struct {
	op, text string
	than     semver.Version
}

// parseVersions reads `*`, or an operator and a version.
func parseVersions(constraint string) (versionRange, error) {
	if constraint = strings.TrimSpace(constraint); constraint == "*" {
		return versionRange{}, nil
	}
	invalid := func(err error) (versionRange, error) {
		return versionRange{}, fmt.Errorf("given imageconstraint:%s is not valid, missing space between op and version? %w", constraint, err)
	}
	op, text, _ := strings.Cut(constraint, " ")
	// leading zeros, as in 24.04, are no obstacle
	than, err := semver.ParseTolerant(text)
	if err != nil || !slices.Contains([]string{"=", "!=", "<", "<=", ">", ">="}, op) {
		return invalid(errors.New("invalid semantic version"))
	}
	return versionRange{op: op, text: text, than: than}, nil
}

func (r versionRange) include(v semver.Version) bool {
	switch c := v.Compare(r.than); r.op {
	case "=":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	}
	return true
}

// String is what an error says, without a blank.
func (r versionRange) String() string {
	if r.op == "" {
		return "*"
	}
	return r.op + r.text
}
