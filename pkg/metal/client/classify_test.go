// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
)

// recording is one recorded exchange.
type recording struct {
	name string
	// number is the recording's, "2/" before those of exchanges-2.
	number string
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Status int             `json:"status"`
	Body   json.RawMessage `json:"response_body"`
}

// recorded reads all exchanges of both versions of the metal-api.
func recorded(t testing.TB) []recording {
	t.Helper()
	files, err := filepath.Glob(metaltest.Recordings(t) + "/exchanges*/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var all []recording
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
			continue
		}
		r := recording{name: strings.TrimSuffix(filepath.Base(f), ".json")}
		r.number = prefixOf(f) + r.name[:3]
		require.NoError(t, json.Unmarshal(data, &r), f)
		if r.Method != "" {
			all = append(all, r)
		}
	}
	return all
}

// prefixOf distinguishes the recordings of one directory from those of another with the
// same numbers.
func prefixOf(file string) string {
	if filepath.Base(filepath.Dir(file)) == "exchanges-2" {
		return "2/"
	}
	return ""
}

// classOf is the class of the recorded operation; for operations that this
// client never calls, that of a read or a free.
func (r recording) classOf() class {
	path, _, _ := strings.Cut(r.Path, "?")
	switch {
	case strings.Contains(path, "/power/"):
		return classPower
	case strings.HasSuffix(path, "/reinstall"):
		return classReinstall
	case strings.HasSuffix(path, "/state"):
		return classState
	case strings.HasSuffix(path, "/consolepassword"), strings.HasSuffix(path, "/ipmi") && r.Method == "GET":
		return classReadSecret
	case r.Method == "DELETE":
		return classFree
	case strings.HasPrefix(path, "/v1/machine/allocate"), strings.HasPrefix(path, "/v1/firewall/allocate"):
		return classAllocateMachine
	case strings.HasPrefix(path, "/v1/network/allocate"):
		return classAllocateNetwork
	case strings.HasPrefix(path, "/v1/ip/allocate"):
		return classAllocateIP
	case r.Method == "POST" && path == "/v1/ip":
		return classUpdateIP
	}
	return classRead
}

// foreign are recordings of writes that the client never makes: to projects,
// images, reservations and constraints, and updates, and of reads of capacity, of issues and of
// many controllers.
func (r recording) foreign() bool {
	return strings.HasPrefix(r.Path, "/v1/project") && r.Method != "GET" ||
		strings.HasPrefix(r.Path, "/v1/image") && r.Method == "DELETE" ||
		r.Method == "POST" && slices.Contains([]string{"/v1/machine", "/v1/network"}, r.Path) ||
		strings.HasPrefix(r.Path, "/v1/size/reservations") || strings.HasPrefix(r.Path, "/v1/size-image-constraint") ||
		strings.HasPrefix(r.Path, "/v1/partition/capacity") ||
		strings.HasPrefix(r.Path, "/v1/tenant") ||
		strings.HasPrefix(r.Path, "/v1/machine/ipmi") || strings.HasPrefix(r.Path, "/v1/machine/issues") || r.Path == "/v1/health" || r.Path == "/v1/nosuchthing" ||
		r.Method == "DELETE" && strings.HasPrefix(r.Path, "/v1/network/") && !strings.HasPrefix(r.Path, "/v1/network/free/") ||
		r.Method == "DELETE" && strings.HasPrefix(r.Path, "/v1/machine/") && !strings.HasSuffix(r.Path, "/free")
}

// kinds is what every recorded failure means, by the recording's number.
var kinds = map[metal.Kind]string{
	metal.Unavailable: "004 006 007 008 010 014 016 092 199 377 378 379 380 384 385 399 401 402 403 404 405 406 407 408 514 515 516 520 " +
		"2/036 2/037 2/039 2/049 2/050 2/088 2/093 2/114 2/195 2/223 2/469 2/511 2/558 2/568 2/578",
	metal.NotFound: "023 027 031 034 044 045 072 085 095 108 134 135 138 152 156 166 167 202 297 298 327 " +
		"2/057 2/058 2/061 2/062 2/065 2/105 2/140 2/141 2/173 2/174 2/175 2/181 2/182 2/183 2/184 2/185 2/187 2/188 2/191 2/224 2/279 2/496 2/497 2/510 2/607",
	metal.Conflict: "109 117 118 237 241 513 2/212 2/213 2/268 2/516 2/595",
	metal.Refused: "017 018 019 " +
		"078 079 080 081 105 119 120 122 123 125 128 129 132 150 154 " +
		"170 171 172 175 176 177 178 180 181 182 184 185 186 187 188 190 191 192 194 195 198 236 250 251 259 263 " +
		"279 280 285 286 287 288 289 290 305 306 309 316 323 324 338 534 " +
		"2/103 2/106 2/108 2/109 2/110 2/113 2/225 2/226 2/229 2/230 2/232 2/234 2/235 2/252 2/253 2/275 2/276 2/277 2/317 2/661 " +
		"2/258 2/259 2/302 2/365 2/399 2/422 2/423 2/424 2/427 2/428 2/429 2/436 2/437 2/438 2/470 2/471 2/472 2/492 2/509 2/515 2/519 2/520 2/523 " +
		"2/536 2/544 2/547 2/548 2/549 2/550 2/551 2/553 2/554 2/555 2/556 2/557 2/561 2/586 2/587 2/588 2/589 2/590 2/647 2/675 2/678",
	metal.Uncertain: "387 388 389 518 2/081 2/082 2/083 2/085 2/089",
}

func TestClassify_RecordedFailures(t *testing.T) {
	expected := map[string]metal.Kind{}
	for kind, numbers := range kinds {
		for number := range strings.FieldsSeq(numbers) {
			require.NotContains(t, expected, number)
			expected[number] = kind
		}
	}
	seen := map[string]bool{}
	for _, r := range recorded(t) {
		if r.Status < 400 || r.foreign() {
			continue
		}
		number := r.number
		seen[number] = true
		message := errorMessage(bytes.NewReader(r.Body))
		got := classify(r.classOf(), r.Status, message)
		require.Contains(t, expected, number, "%s (%s %d) is not in the table: %s → %s", r.name, r.Method, r.Status, message, got)
		require.Equal(t, expected[number], got, "%s: %d %s", r.name, r.Status, message)
	}
	for number := range maps.Keys(expected) {
		require.True(t, seen[number], "%s is in the table and not among the recordings", number)
	}
}

func TestClassify_OutageIsNeitherRefusalNorNotFound(t *testing.T) {
	n := 0
	for _, r := range recorded(t) {
		if !strings.Contains(r.name, "-outage-") || r.Status < 400 || r.foreign() {
			continue
		}
		n++
		message := errorMessage(bytes.NewReader(r.Body))
		// Whatever operation such a message comes from.
		require.Equal(t, metal.Unavailable, classify(classRead, r.Status, message), r.name)
		for _, c := range []class{classAllocateMachine, classAllocateNetwork, classAllocateIP, classFree, classUpdateIP, classPower, classReinstall, classState} {
			require.Contains(t, []metal.Kind{metal.Uncertain, metal.Unavailable}, classify(c, r.Status, message), r.name)
		}
	}
	require.Greater(t, n, 15)
}

func TestClassify_OutageWithinRefusalIsOutage(t *testing.T) {
	for _, message := range []string{
		`size:v1 not found err:cannot find size with id "v1" in database: rethinkdb: dial tcp 127.0.0.1:38015: connect: connection refused`,
		`unable to gather networks:cannot find network with id "x" in database: rethinkdb: EOF`,
		`NotFound no image for id:x found:cannot list images: rpc error: code = DeadlineExceeded desc = context deadline exceeded`,
	} {
		require.Equal(t, metal.Unavailable, classify(classAllocateMachine, 400, message), message)
		require.Equal(t, metal.Uncertain, classify(classAllocateMachine, 422, message), message)
		require.Equal(t, metal.Unavailable, classify(classRead, 404, message), message)
	}
}

// The words of RethinkDB's outage stand in the answers of every step of a call:
// those before the first write are decided, those after it are not.
func TestClassify_OutageBeforeFirstWriteIsUnavailable(t *testing.T) {
	t.Parallel()
	const down = "rethinkdb: dial tcp 127.0.0.1:38015: connect: connection refused"
	for _, c := range []struct {
		class   class
		message string
		want    metal.Kind
	}{
		{classAllocateMachine, "cannot search machine in database: " + down, metal.Unavailable},
		{classAllocateMachine, "cannot list filesystemlayout from database: " + down, metal.Unavailable},
		{classAllocateMachine, "size cannot be found: cannot find size with id \"v1\" in database: " + down, metal.Unavailable},
		{classAllocateMachine, "failed to create new VPN user for the project: rpc error: code = Unavailable desc = x", metal.Unavailable},
		{classAllocateMachine, "unable to gather networks:cannot find network with id \"x\" in database: " + down, metal.Uncertain},
		{classAllocateMachine, "unable to find machine:cannot find machine with id \"x\" in database: " + down, metal.Uncertain},
		{classAllocateMachine, "error when allocating machine \"x\", cannot update machine (x): " + down, metal.Uncertain},
		{classAllocateMachine, "error finding image \"x\" for machine \"x\": cannot find image with id \"x\" in database: " + down, metal.Uncertain},
		{classAllocateNetwork, "could not acquire a vrf: cannot find a free integer: " + down, metal.Unavailable},
		{classAllocateNetwork, "cannot create network in database: " + down, metal.Uncertain},
		{classAllocateIP, "cannot create ip in database: " + down, metal.Uncertain},
		{classFree, "cannot find machine with id \"x\" in database: " + down, metal.Unavailable},
		{classFree, "cannot find ip with id \"x\" in database: " + down, metal.Unavailable},
		{classFree, "cannot find network with id \"x\" in database: " + down, metal.Unavailable},
		{classFree, "cannot delete vrf switches: cannot search switch in database: " + down, metal.Unavailable},
		{classFree, "cannot publish delete event: EOF", metal.Unavailable},
		{classFree, "cannot update machine (x): " + down, metal.Uncertain},
		{classFree, "cannot delete ip with id \"x\" from database: " + down, metal.Uncertain},
		{classFree, "could not release vrf: " + down, metal.Uncertain},
		{classFree, "error finding provisioning event container for machine \"x\": cannot find provisioningeventcontainer with id \"x\" in database: " + down, metal.Uncertain},
	} {
		require.Equal(t, c.want, classify(c.class, 422, c.message), c.message)
	}
	// Only a free ends at the event: what else publishes has done its part by then.
	for _, c := range []class{classAllocateMachine, classAllocateNetwork, classAllocateIP} {
		require.Equal(t, metal.Uncertain, classify(c, 422, "cannot publish delete event: dial tcp 127.0.0.1:27150: connect: connection refused"))
	}
}

func TestClassify_UnknownMessage(t *testing.T) {
	for _, status := range []int{301, 400, 404, 409, 418, 422, 500, 502, 503, 504} {
		for _, message := range []string{"", "something new", "<html>Bad Gateway</html>"} {
			require.Equal(t, metal.Unavailable, classify(classRead, status, message))
			for _, c := range []class{classAllocateMachine, classAllocateNetwork, classAllocateIP, classFree, classUpdateIP} {
				require.Equal(t, metal.Uncertain, classify(c, status, message))
			}
		}
	}
}

// After an allocation or a free was done the metal-api still makes its answer,
// and can fail to (machine-service.go, makeMachineResponse).
func TestClassify_FailureToBuildAnswerIsNotNotFound(t *testing.T) {
	message := `error finding provisioning event container for machine "x": NotFound no provisioningeventcontainer with id "x" found`
	require.Equal(t, metal.Uncertain, classify(classAllocateMachine, 404, message))
	require.Equal(t, metal.Uncertain, classify(classFree, 404, message))
	usage := `prefix usage for cidr:10.0.12.0/22 not found not_found: NotFound prefix:10.0.12.0/22 not found:sql: no rows in result set`
	require.Equal(t, metal.Uncertain, classify(classAllocateNetwork, 422, usage))
}

func TestClassify_RefusalAppliesToItsOperationOnly(t *testing.T) {
	require.Equal(t, metal.Refused, classify(classAllocateMachine, 422, "no machine available"))
	for _, c := range []class{classAllocateNetwork, classAllocateIP, classFree, classUpdateIP, classPower, classReinstall, classState} {
		require.Equal(t, metal.Uncertain, classify(c, 422, "no machine available"))
	}
	require.Equal(t, metal.Uncertain, classify(classAllocateMachine, 500, "no machine available"))
}

// A queue that is away leaves a machine marked, an LED on, or an event in the log.
func TestClassify_RequestsToMachinesAreUncertainWhenTheQueueIsAway(t *testing.T) {
	t.Parallel()
	const down = "dial tcp 127.0.0.1:27150: connect: connection refused"
	require.Equal(t, metal.Uncertain, classify(classPower, 422, down))
	require.Equal(t, metal.Uncertain, classify(classReinstall, 422, "cannot publish delete event: "+down))
	require.Equal(t, metal.Unavailable, classify(classFree, 422, "cannot publish delete event: "+down), "a free has not begun then")
	for _, c := range []class{classPower, classReinstall, classState} {
		require.Equal(t, metal.NotFound, classify(c, 404, `NotFound no machine with id "x" found`))
	}
	require.Equal(t, metal.Refused, classify(classReadSecret, 400, "reason must be at least 10 characters long"))
	require.Equal(t, metal.Refused, classify(classReadSecret, 422, "machine is not allocated, no consolepassword present"))
}

func TestClassify_ParallelAllocationsAreBusy(t *testing.T) {
	require.Equal(t, metal.Busy, classify(classAllocateMachine, 422, "too many parallel machine allocations taking place, try again later"))
	require.Equal(t, metal.Busy, classify(classRead, 429, "slow down"))
}

func TestClassify_ConcurrentChangeIsConflict(t *testing.T) {
	const message = "Conflict cannot update machine (00000000-0000-4000-8000-000000000001): the entity was changed from another, please retry"
	require.Equal(t, metal.Conflict, classify(classFree, 409, message))
	require.Equal(t, metal.Conflict, classify(classAllocateMachine, 422, `machine "00000000-0000-4000-8000-000000000007" already allocated`))
	require.Equal(t, metal.Conflict, classify(classReinstall, 409, message), "the machine is not marked")
}

// A reinstallation marks the machine, and then resets its switches.
func TestClassify_ConcurrentChangeOfSwitchesLeavesAMachineMarked(t *testing.T) {
	t.Parallel()
	const message = "cannot delete vrf switches: Conflict cannot update switch (leaf01): the entity was changed from another, please retry"
	for _, status := range []int{409, 422} {
		require.Equal(t, metal.Uncertain, classify(classReinstall, status, message))
	}
	require.Equal(t, metal.Unavailable, classify(classFree, 422, message))
}

func TestRules_CiteExistingRecordings(t *testing.T) {
	for _, r := range rules {
		require.NotEmpty(t, r.from)
		require.NotEmpty(t, r.why)
		for from := range strings.FieldsSeq(r.from) {
			if strings.HasSuffix(from, ".go") || strings.HasPrefix(from, "(") {
				continue
			}
			first, last, isRange := strings.Cut(from, "-")
			if !isRange {
				last = first
			}
			for _, number := range []string{first, last} {
				pattern := metaltest.Recordings(t) + "/exchanges*/" + number + "-*.json"
				if second, ok := strings.CutPrefix(number, "2/"); ok {
					pattern = metaltest.Recordings(t) + "/exchanges-2/" + second + "-*.json"
				}
				files, err := filepath.Glob(pattern)
				require.NoError(t, err)
				require.NotEmpty(t, files, "recording %s", number)
			}
		}
	}
}

func TestErrorMessage_UnwrapsBody(t *testing.T) {
	for in, want := range map[string]string{
		`"{\"statuscode\":422,\"message\":\"no machine available\"}"`: "no machine available",
		`{"statuscode":500,"message":"plain object"}`:                 "plain object",
		`"tenant  not allowed"`:                                       "tenant  not allowed",
		`<html>502</html>`:                                            "<html>502</html>",
		``:                                                            "",
		"Authorization: Metal-Admin 0123456789abcdef0123456789abcdef": "Authorization: Metal-Admin [redacted]",
	} {
		require.Equal(t, want, errorMessage(strings.NewReader(in)))
	}
	require.Less(t, len(errorMessage(strings.NewReader(strings.Repeat("x", 1<<20)))), metal.MaxMessage+10)
}
