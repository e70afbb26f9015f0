// SPDX-License-Identifier: Apache-2.0

package images

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
)

// hostForm is a name or an address, with a port or without.
var hostForm = regexp.MustCompile(`^([0-9A-Za-z.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?$`)

// Reference returns the name of a program's image in a registry, which is a host,
// and usually a path: ghcr.io/metal-stack.
func Reference(registry string, program Program, stamp build.Stamp) (name.Tag, error) {
	// Such a value is not repeated: it may hold a password.
	if strings.Contains(registry, "@") {
		return name.Tag{}, errors.New("invalid registry: must be a host and a path, such as ghcr.io/metal-stack, without credentials: these come from docker login")
	}
	parts := strings.Split(registry, "/")
	host := parts[0]
	if !hostForm.MatchString(host) || slices.Contains(parts, "") || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		return name.Tag{}, fmt.Errorf("invalid registry %q: must begin with a host, such as ghcr.io/metal-stack or localhost:5000", registry)
	}
	tag, err := name.NewTag(registry+"/"+program.Name+":"+stamp.Version, name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("invalid registry %q: must be a host and a path, such as ghcr.io/metal-stack: %w", registry, err)
	}
	return tag, nil
}

// imageName returns a reference in the form that containerd and Docker store: Docker's
// own registry has another name there.
func imageName(tag name.Tag) string {
	return strings.Replace(tag.Name(), name.DefaultRegistry+"/", "docker.io/", 1)
}
