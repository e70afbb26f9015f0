// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Push pushes a program's images to a registry, blobs first and the tag last. A
// tag that is there already with other images stays as it is, and is an error,
// unless overwrite says otherwise. No error shows a credential, nor what the
// registry says beside the status, which may repeat one.
func Push(ctx context.Context, tag name.Tag, index v1.ImageIndex, overwrite bool, options ...remote.Option) error {
	options = append(options, remote.WithContext(ctx))
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	switch there, err := remote.Head(tag, options...); {
	case err == nil && there.Digest == digest:
		return nil
	case err == nil && !overwrite:
		return fmt.Errorf("failed to push %s: the tag exists with digest %s, and would get %s: a released tag must not change; use another tag, or --overwrite for one that is no release",
			tag, there.Digest, digest)
	case err != nil && !isNotFound(err):
		return refusal("look up", tag, err)
	}
	if err := remote.WriteIndex(tag, index, options...); err != nil {
		return refusal("push", tag, err)
	}
	return nil
}

// query is that of a URL in a message: where blobs are uploaded to, registries tell with a
// signature in the URL.
var query = regexp.MustCompile(`\?[^\s"]+`)

// isNotFound reports whether a registry has no such tag, or no such repository yet.
func isNotFound(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

func refusal(verb string, tag name.Tag, err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return fmt.Errorf("failed to %s %s: %s", verb, tag, query.ReplaceAllString(err.Error(), "?…"))
	}
	hint := "the registry refused it"
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized:
		hint = "no valid credentials for " + tag.RegistryStr() + ": run docker login, or set DOCKER_CONFIG to the directory of a config.json that has them"
	case code == http.StatusForbidden:
		hint = "the account in docker's config.json may not do that in " + tag.RepositoryStr()
	case code == http.StatusTooManyRequests || code >= 500:
		hint = "the registry is unavailable: retry"
	}
	return fmt.Errorf("failed to %s %s: %d %s: %s", verb, tag, answer.StatusCode, http.StatusText(answer.StatusCode), hint)
}
