// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// access is the least role that a route asks for.
type access int

const (
	accessAny access = iota
	accessView
	accessEdit
	accessAdmin
)

// handler answers one call: a status with a body, or an error.
type handler func(c *call) (status int, body any, err error)

// route is one endpoint. Its name is what faults and statistics call it.
type route struct {
	name    string
	method  string
	path    []string // below /v1, "{}" is a parameter
	access  access
	anyType bool // takes bodies of any content type
	handle  handler
}

// router finds routes, and answers what finds none as go-restful does
// (013-016).
type router struct {
	base   string
	routes map[string][]*route // by first segment
}

func (r *router) add(name, method, path string, acc access, h handler) *route {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	rt := &route{name: name, method: method, path: segments, access: acc, handle: h}
	r.routes[segments[0]] = append(r.routes[segments[0]], rt)
	return rt
}

// find returns the route and its parameters, or the status of the failure.
func (r *router) find(req *http.Request) (*route, []string, int) {
	path, ok := strings.CutPrefix(req.URL.Path, r.base+"/v1/")
	if !ok {
		return nil, nil, http.StatusNotFound
	}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	var best *route
	var params []string
	seen := false
	for _, rt := range r.routes[segments[0]] {
		p, ok := rt.match(segments)
		if !ok {
			continue
		}
		seen = true
		if rt.method != req.Method {
			continue
		}
		if best == nil || len(p) < len(params) {
			best, params = rt, p
		}
	}
	switch {
	case best != nil && !best.takes(req):
		return nil, nil, http.StatusUnsupportedMediaType
	case best != nil:
		return best, params, 0
	case seen:
		return nil, nil, http.StatusMethodNotAllowed
	}
	return nil, nil, http.StatusNotFound
}

func (rt *route) match(segments []string) ([]string, bool) {
	if len(segments) != len(rt.path) {
		return nil, false
	}
	var params []string
	for i, p := range rt.path {
		if p == "{}" {
			params = append(params, segments[i])
		} else if p != segments[i] {
			return nil, false
		}
	}
	return params, true
}

// takes says whether the content type will do: JSON, or none on methods that
// need no body.
func (rt *route) takes(req *http.Request) bool {
	ct := req.Header.Get("Content-Type")
	if ct == "" {
		switch req.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
			return true
		}
		return rt.anyType
	}
	return rt.anyType || strings.Contains(ct, "application/json") || strings.Contains(ct, "*/*")
}

// decode reads the request's body as go-restful does (017-020).
func decode[T any](c *call) (T, error) {
	var v T
	if c.given != nil {
		if t, ok := c.given.(T); ok {
			return t, nil
		}
	}
	if err := json.NewDecoder(c.r.Body).Decode(&v); err != nil {
		return v, badRequest(named(err))
	}
	return v, nil
}

// named gives a type in an error the package that it has in the metal-api:
// searches are those of its datastore.
func named(err error) error {
	wrong := (*json.UnmarshalTypeError)(nil)
	if !errors.As(err, &wrong) {
		return err
	}
	if wrong.Field != "" {
		said := strings.Replace(err.Error(), "of type wire.", "of type v1.", 1)
		return errors.New(strings.Replace(said, "of type map[string]uint8", "of type metal.ChildPrefixLength", 1))
	}
	pkg := "v1."
	if strings.HasSuffix(wrong.Type.Name(), "SearchQuery") {
		pkg = "datastore."
	}
	return errors.New(strings.Replace(err.Error(), "wire.", pkg, 1))
}

// rawList is a list of entries that are encoded already.
type rawList [][]byte

// rawEntity is what is encoded already, as an entry of a list.
type rawEntity struct{ entry []byte }

// encode takes the indentation of the list away; a JSON string has no newline.
func (e rawEntity) encode() []byte { return bytes.ReplaceAll(e.entry, []byte("\n "), []byte("\n")) }

// encode is the body of an answer: indented by one blank, no newline at the
// end, as go-restful prints it (001: 181 bytes, 159 compact), or compact.
func encode(v any, compact bool) []byte {
	switch raw := v.(type) {
	case rawList:
		return raw.encode()
	case rawEntity:
		return raw.encode()
	}
	b, err := []byte(nil), error(nil)
	if compact {
		b, err = json.Marshal(v)
	} else {
		b, err = json.MarshalIndent(v, "", " ")
	}
	if err != nil {
		panic(err) // wire types always encode
	}
	return b
}

func (l rawList) encode() []byte {
	if len(l) == 0 {
		return []byte("[]")
	}
	size := 4
	for _, e := range l {
		size += len(e) + 3
	}
	b := make([]byte, 0, size)
	b = append(b, "["...)
	for i, e := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n "...)
		b = append(b, e...)
	}
	return append(b, "\n]"...)
}

// encodeError is the body of an error: a JSON string that holds JSON (docs/metal-api.md, Q7).
func encodeError(status int, err error) []byte {
	var bare *bareError
	if errors.As(err, &bare) {
		return encode(bare.msg, false)
	}
	inner, _ := json.Marshal(wire.Error{StatusCode: status, Message: err.Error()})
	return encode(string(inner), false)
}
