// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/operations"
)

// Limits of the parts of a request's body. The body itself is limited in bytes, but
// the memory that it takes when decoded is not in proportion to them: an entry of a
// list can be three bytes, and takes several hundred in managed fields, conversions
// and errors. These limits are above all that validation allows, which has the exact
// limit of each field.
const (
	// maxBody has room for an allocation with 1 MiB of user data in base64, and
	// for an object with a record of 1 MiB.
	maxBody = 3 << 19
	// maxOperationBody is for requests to operate a machine: a few short fields, and
	// metadata.
	maxOperationBody = 16 << 10
	// maxEntries are those of one list or map, and maxValues those of all.
	maxEntries = 1024
	maxValues  = 100_000
	maxDepth   = 32
	// maxKey is the most bytes in the name of a field or the key of a map, and in
	// a string of metadata. Annotations can have 256 KiB together.
	maxKey    = 1 << 10
	maxString = 256 << 10
	// maxYAMLEntries is how many lines and separators a body that is not JSON can
	// have.
	maxYAMLEntries = 25_000
)

// withBodyLimits refuses bodies with too many or too large parts, before they are
// decoded.
func withBodyLimits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if !ok || !info.IsResourceRequest || info.APIGroup != infrastructure.GroupName || req.Body == nil || !writeVerbs.Has(info.Verb) {
			next.ServeHTTP(w, req)
			return
		}
		limit := maxBody
		if operations.Subresources.Has(info.Subresource) {
			limit = maxOperationBody
		}
		body, err := io.ReadAll(io.LimitReader(req.Body, int64(limit)+1))
		if err == nil && len(body) > limit && limit < maxBody {
			err := apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit for requests to %s/%s is %d KiB", info.Resource, info.Subresource, limit>>10))
			responsewriters.ErrorNegotiated(err, scheme.Codecs, scheme.StorageVersion, w, req)
			return
		}
		if err == nil {
			if invalid := checkBody(body, info.Subresource == "allocation"); invalid != nil {
				err := apierrors.NewInvalid(infrastructure.Kind(kindOf[info.Resource]), info.Name, field.ErrorList{invalid})
				responsewriters.ErrorNegotiated(err, scheme.Codecs, scheme.StorageVersion, w, req)
				return
			}
		}
		// The generic server answers if the body is too long or could not be read.
		rest := io.MultiReader(bytes.NewReader(body), &errorReader{err}, req.Body)
		req.Body = readCloser{rest, req.Body}
		next.ServeHTTP(w, req)
	})
}

var kindOf = map[string]string{
	"metalstackclusters": "MetalStackCluster", "metalstackmachines": "MetalStackMachine", "metalstackfirewalls": "MetalStackFirewall",
	"metalstackclustertemplates": "MetalStackClusterTemplate", "metalstackmachinetemplates": "MetalStackMachineTemplate",
	"metalstacknetworks": "MetalStackNetwork", "metalstackips": "MetalStackIP",
	"metalstackremediations": "MetalStackRemediation", "metalstackremediationtemplates": "MetalStackRemediationTemplate",
}

type readCloser struct {
	io.Reader
	io.Closer
}

// errorReader is a reader that returns err, or is empty.
type errorReader struct{ err error }

// Read implements io.Reader.
func (r *errorReader) Read([]byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return 0, io.EOF
}

// checkBody returns an error for the first part of a body that is too large, or nil.
func checkBody(body []byte, userData bool) *field.Error {
	if len(body) > maxBody {
		return nil
	}
	s := bodyChecker{decoder: json.NewDecoder(bytes.NewReader(body)), userData: userData}
	s.decoder.UseNumber()
	invalid, err := s.check()
	if err == nil {
		return invalid
	}
	// It is YAML or malformed.
	entries := 0
	for _, separator := range yamlSeparators {
		entries += bytes.Count(body, separator)
	}
	if entries > maxYAMLEntries {
		invalid := field.TooMany(field.NewPath("body"), entries, maxYAMLEntries)
		invalid.Detail += " (lines and entries in a body that is not JSON)"
		return invalid
	}
	return nil
}

// yamlSeparators are between, or before, all entries of a map or list in YAML.
var yamlSeparators = [][]byte{[]byte("\n"), []byte("\r"), []byte("\u0085"), []byte("\u2028"), []byte("\u2029"), []byte(","), []byte("["), []byte("{")}

// bodyChecker reads a JSON document token by token; of the document it holds only the
// containers that are open.
type bodyChecker struct {
	decoder  *json.Decoder
	userData bool
	open     []container
	values   int
}

// container is a list or a map that is open.
type container struct {
	list    bool
	entries int
	// key is that of the map's current entry; value is true if its value is next.
	key   string
	value bool
}

// check returns an error if the document is not JSON.
func (b *bodyChecker) check() (*field.Error, error) {
	for {
		token, err := b.decoder.Token()
		switch {
		case errors.Is(err, io.EOF) && len(b.open) == 0:
			return nil, nil
		case err != nil:
			return nil, err
		}
		if delim, is := token.(json.Delim); is && (delim == ']' || delim == '}') {
			b.open = b.open[:len(b.open)-1]
			continue
		}
		if invalid := b.checkToken(token); invalid != nil {
			return invalid, nil
		}
	}
}

func (b *bodyChecker) checkToken(token json.Token) *field.Error {
	if n := len(b.open); n > 0 {
		in := &b.open[n-1]
		if !in.list && !in.value {
			in.key, in.value = token.(string), true
			if len(in.key) > maxKey {
				b.open = b.open[:n-1] // The path must not include the key.
				return field.Invalid(b.fieldPath(), field.OmitValueType{}, fmt.Sprintf("must not have a key of more than %d bytes", maxKey))
			}
			return b.countEntry(in)
		}
		in.value = false
		if in.list {
			if invalid := b.countEntry(in); invalid != nil {
				return invalid
			}
		}
	}
	if invalid := b.checkDuration(token); invalid != nil {
		return invalid
	}
	switch value := token.(type) {
	case json.Delim:
		if len(b.open) == maxDepth {
			return field.Invalid(b.fieldPath(), field.OmitValueType{}, fmt.Sprintf("must not be nested more than %d levels deep", maxDepth))
		}
		b.open = append(b.open, container{list: value == '['})
	case string:
		if most := b.maxLength(); len(value) > most {
			return field.TooLong(b.fieldPath(), "", most)
		}
	}
	return nil
}

// countEntry counts an entry of the innermost container.
func (b *bodyChecker) countEntry(in *container) *field.Error {
	in.entries++
	b.values++
	switch {
	case in.entries > maxEntries:
		b.open = b.open[:len(b.open)-1] // The container itself is invalid.
		return field.TooMany(b.fieldPath(), -1, maxEntries)
	case b.values > maxValues:
		invalid := field.TooMany(field.NewPath("body"), -1, maxValues)
		invalid.Detail += " in all of its lists and maps"
		return invalid
	}
	return nil
}

// maxLength is how long a string may be at the current position.
func (b *bodyChecker) maxLength() int {
	switch {
	case b.userData && len(b.open) == 1 && b.open[0].key == "userData":
		return maxBody
	case len(b.open) > 1 && b.open[0].key == "metadata" && b.open[1].key != "annotations" && b.open[1].key != "managedFields":
		return maxKey
	}
	return maxString
}

// fieldPath is the path of the current position.
func (b *bodyChecker) fieldPath() *field.Path {
	path := (*field.Path)(nil)
	for _, c := range b.open {
		if c.list {
			path = path.Index(c.entries - 1)
		} else {
			path = path.Child(c.key)
		}
	}
	if path == nil {
		return field.NewPath("body")
	}
	return path
}
