// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// maxYAML is how many bytes a body of YAML may have. Decoding YAML takes a
	// hundred times as long as decoding JSON, some 2 s for 3 MiB, and is done
	// twice to find duplicate fields.
	maxYAML = 256 << 10
	// maxWarnings is how many warnings a response has, each of oneline.MaxWarning
	// bytes, and maxAllWarnings how many bytes all together: each is a header, and
	// proxies between the server and its client limit headers. Beyond 4096 characters the generic server cuts and drops warnings
	// without a warning about it.
	maxWarnings    = 20
	maxAllWarnings = 3 << 10
	// furtherWarnings is the last warning of a response that would have more.
	furtherWarnings = "further warnings were omitted"
)

// withYAMLLimit refuses YAML bodies that are expensive to decode.
func withYAMLLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !isYAML(req.Header.Get("Content-Type")) || req.Body == nil {
			next.ServeHTTP(w, req)
			return
		}
		if req.ContentLength > maxYAML {
			responsewriters.ErrorNegotiated(yamlTooLarge(), scheme.Codecs, scheme.StorageVersion, w, req)
			return
		}
		bounded := *req
		bounded.Body = &yamlBody{ReadCloser: req.Body, left: maxYAML}
		next.ServeHTTP(w, &bounded)
	})
}

// isYAML is whether a body of this type is decoded as YAML: application/yaml,
// and a server-side apply.
func isYAML(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(mediaType, "/yaml") || strings.HasSuffix(mediaType, "+yaml"))
}

func yamlTooLarge() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit for YAML, which includes server-side apply, is %d KiB: send JSON, whose limit is 1.5 MiB", maxYAML>>10))
}

// yamlBody is a body that fails when it is too large.
type yamlBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *yamlBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, yamlTooLarge()
	}
	return n, err
}

// withWarningLimits bounds the warnings of each response.
func withWarningLimits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		recorder := &limitedWarnings{add: func(agent, text string) { warning.AddWarning(req.Context(), agent, text) }}
		next.ServeHTTP(w, req.WithContext(warning.WithWarningRecorder(req.Context(), recorder)))
	})
}

// limitedWarnings passes the first warnings on, each shortened.
type limitedWarnings struct {
	add func(agent, text string)

	mu    sync.Mutex
	seen  map[string]struct{}
	bytes int
	full  bool
}

// AddWarning implements warning.Recorder.
func (w *limitedWarnings) AddWarning(agent, text string) {
	text = oneline.Sanitize(text, oneline.MaxWarning)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, found := w.seen[text]; found || text == "" || w.full {
		return
	}
	if len(w.seen) == maxWarnings-1 || w.bytes+len(text) > maxAllWarnings {
		w.full = true
		w.add("", furtherWarnings)
		return
	}
	if w.seen == nil {
		w.seen = map[string]struct{}{}
	}
	w.seen[text] = struct{}{}
	w.bytes += len(text)
	w.add(agent, text)
}
