// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// access is what a route does to what.
type access string

const (
	// readsCluster reads what is the cluster's alone.
	readsCluster access = "reads the cluster's"
	// readsProject reads what all clusters of the project share.
	readsProject access = "reads the project's"
	// readsPublic reads what everybody may see.
	readsPublic access = "reads what is public"
	// writes changes addresses of Services of the cluster.
	writes access = "changes the cluster's"
	// refused is refused to all.
	refused access = "refused"
)

// route is one call of the metal-api that is served.
type route struct {
	method string
	// path has {} for an id.
	path   string
	access access
	// status is that of success.
	status int
	handle func(r *request) (any, error)
}

// routes are all that are served: what metal-ccm calls, and reads of what there is. Any
// other path is 404.
var routes = []route{
	{http.MethodGet, "v1/health", readsPublic, http.StatusOK, (*request).health},
	{http.MethodGet, "v1/machine/{}", readsCluster, http.StatusOK, (*request).machine},
	{http.MethodGet, "v1/machine", readsCluster, http.StatusOK, (*request).listMachines},
	{http.MethodPost, "v1/machine/find", readsCluster, http.StatusOK, (*request).findMachines},
	{http.MethodPost, "v1/machine", refused, http.StatusOK, (*request).updateMachine},
	{http.MethodGet, "v1/ip/{}", readsProject, http.StatusOK, (*request).ip},
	{http.MethodGet, "v1/ip", readsProject, http.StatusOK, (*request).listIPs},
	{http.MethodPost, "v1/ip/find", readsProject, http.StatusOK, (*request).findIPs},
	{http.MethodPost, "v1/ip/allocate", writes, http.StatusCreated, (*request).allocateIP},
	{http.MethodPost, "v1/ip", writes, http.StatusOK, (*request).updateIP},
	{http.MethodDelete, "v1/ip/free/{}", writes, http.StatusOK, (*request).freeIP},
	{http.MethodPost, "v1/ip/free/{}", writes, http.StatusOK, (*request).freeIP},
	{http.MethodGet, "v1/network/{}", readsProject, http.StatusOK, (*request).network},
	{http.MethodGet, "v1/network", readsProject, http.StatusOK, (*request).listNetworks},
	{http.MethodPost, "v1/network/find", readsProject, http.StatusOK, (*request).findNetworks},
	{http.MethodGet, "v1/size/{}", readsPublic, http.StatusOK, (*request).size},
	{http.MethodGet, "v1/size", readsPublic, http.StatusOK, (*request).listSizes},
	{http.MethodGet, "v1/image/{}", readsPublic, http.StatusOK, (*request).image},
	{http.MethodGet, "v1/image", readsPublic, http.StatusOK, (*request).listImages},
	{http.MethodPost, "v1/image/find", readsPublic, http.StatusOK, (*request).findImages},
	{http.MethodGet, "v1/partition/{}", readsPublic, http.StatusOK, (*request).partition},
	{http.MethodGet, "v1/partition", readsPublic, http.StatusOK, (*request).listPartitions},
}

// request is a request that matches a route.
type request struct {
	*http.Request

	server  *Server
	cluster Cluster
	id      string
	// adopted is Cluster.Adopted, asked once.
	adopted func() (map[string]bool, error)
}

// match returns the id of a path that matches the route's.
func (r *route) match(path string) (id string, ok bool) {
	before, after, hasID := strings.Cut(r.path, "{}")
	if !hasID {
		return "", path == r.path
	}
	id, ok = strings.CutPrefix(path, before)
	return id, ok && after == "" && id != "" && !strings.Contains(id, "/")
}

// find returns the route of a request. Literal paths come before those with an id.
func find(method, path string) (found *route, id string, err error) {
	for i := range routes {
		routeID, ok := routes[i].match(path)
		if ok && routes[i].method == method && (found == nil || routeID == "") {
			found, id = &routes[i], routeID
		}
	}
	if found == nil {
		return nil, "", &apiError{http.StatusNotFound, "404: Page Not Found"}
	}
	return found, id, nil
}

// Reads returns whether a request only reads. Searches are POSTs.
func Reads(method, path string) bool {
	found, _, err := find(method, strings.Trim(path, "/"))
	return method == http.MethodGet || err == nil && found.access != writes && found.access != refused
}

// deadlineMargin is how long before the request's deadline an answer is given: the generic
// server would say no more than that time is up.
const deadlineMargin = time.Second

func (s *Server) serve(w http.ResponseWriter, req *http.Request, cluster Cluster, path string) {
	found, id, err := find(req.Method, strings.Trim(path, "/"))
	if err == nil {
		err = s.limits.take(cluster, found.access == writes)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	if deadline, ok := req.Context().Deadline(); ok {
		ctx, cancel := context.WithDeadline(req.Context(), deadline.Add(-deadlineMargin))
		defer cancel()
		req = req.WithContext(ctx)
	}
	adopted := sync.OnceValues(func() (map[string]bool, error) { return cluster.Adopted(req.Context()) })
	answer, err := found.handle(&request{req, s, cluster, id, adopted})
	if err != nil {
		klog.FromContext(req.Context()).V(2).Info("Request to the metal-api of a cluster failed", "namespace", cluster.Namespace, "cluster", cluster.Name, "method", req.Method, "route", found.path, "err", err)
		writeError(w, err)
		return
	}
	writeAnswer(w, found.status, answer)
}

// maxBody is the most bytes that a body may have.
const maxBody = 64 << 10

// decode reads the body. Fields that are null are as if they were left out: metal-go sends
// what is not set as null. A field that into does not have is refused: to ignore a filter
// would return more than was asked for.
func (r *request) decode(into any) error { return r.decodeUnless(into, "null") }

// decodeFilter is decode for filters, of which metalctl sends those that are not set as
// empty lists.
func (r *request) decodeFilter(into any) error { return r.decodeUnless(into, "null", "[]") }

// decodeUnless leaves out fields that have one of the values.
func (r *request) decodeUnless(into any, unset ...string) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &apiError{http.StatusUnsupportedMediaType, "415: Unsupported Media Type"}
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return &apiError{http.StatusBadRequest, "failed to read the body"}
	case len(raw) > maxBody:
		return &apiError{http.StatusRequestEntityTooLarge, "the body is too large: at most 64 KiB are accepted"}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return badBody(err)
	}
	for name, value := range fields {
		if slices.Contains(unset, string(bytes.TrimSpace(value))) {
			delete(fields, name)
		}
	}
	set, err := json.Marshal(fields)
	if err != nil {
		return badBody(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(set))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return badBody(err)
	}
	return nil
}

// badBody does not quote the body.
func badBody(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return &apiError{http.StatusBadRequest, "field " + kind.Field + " must not be of type " + kind.Value}
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return &apiError{http.StatusBadRequest, "field " + strings.TrimPrefix(err.Error(), "json: unknown field ") + " is not supported by the metal-api of a cluster"}
	}
	return &apiError{http.StatusBadRequest, "the body is not a JSON object"}
}
