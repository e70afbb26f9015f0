package metal

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
)

// rule says what an answer means. The first that fits decides.
//
// The metal-api's status does not tell a refusal from an outage, only its
// message does (README, "Failures"), and a message can quote what a user
// wrote. So outages are looked for anywhere in a message, and before refusals;
// refusals are anchored at its beginning. What no rule knows is Unavailable
// for reads and Uncertain for writes.
type rule struct {
	class   class
	status  []int // none: any
	message *regexp.Regexp
	kind    Kind
	// from are the recordings that the rule was taken from; a name is a file
	// of the metal-api's source.
	from string
}

var rules = []rule{
	// Not the metal-api's doing, or not this call's: nothing was begun.
	{classAny, []int{404, 405, 415}, m(`^40[45]: |^415: `), Unavailable, "013 014 016 528"},
	{classAny, []int{401, 403}, m(``), Unavailable, "004 006-008 010 011 199 528"},
	{classAny, []int{429}, m(``), Busy, "(proxies)"},
	{classAny, []int{400}, m(`^json: |^(unexpected )?EOF$`), Refused, "017-019 198"},

	// Outages. A write may have been done before the backend went away.
	{classRead, nil, outage, Unavailable, "377 384 385 401-405"},
	{classWrite, nil, outage, Uncertain, "378-380 387-389 399 406-408"},
	// A network that was freed halfway: every look at it fails, for good.
	{classRead, nil, m(`^prefix usage for cidr:`), Unavailable, "514-516 520"},

	// Somebody else.
	{classWrite, []int{409}, m(`the entity was changed from another, please retry$`), Conflict, "272-275"},
	{classAllocateIP, []int{409}, m(`^Conflict ip already allocated`), Conflict, "117 118 157"},
	{classAllocateMachine, []int{422}, m(`^machine is already allocated$|^machine ".*" already allocated$`), Conflict, "241 341"},
	// The prefixes of a network are freed one by one: the first may be gone
	// when the second turns out to have addresses, so this is no refusal (513).
	{classFree, []int{422}, m(`^error releasing child prefix in ipam: .* has ips, (deletion|delete prefix) not possible$`), Conflict, "109 237 513 541"},

	{classAllocateMachine, []int{422}, m(`^too many parallel machine allocations taking place`), Busy, "349"},

	// Refusals of machine and firewall allocate, in the order in which the
	// metal-api checks. An answer `NotFound …` that is not named here can come
	// after the machine was allocated (machine-service.go, makeMachineResponse).
	{classAllocateMachine, []int{400, 404}, m(`^NotFound no (image for id:|image with id |filesystemlayout with id |size with id |partition with id )`), Refused, "170-172 194"},
	{classAllocateMachine, []int{400, 404}, m(`^size:\S* not found err:NotFound |^partition:\S* not found err:NotFound |^uuid given but no machine found with uuid:\S* err:NotFound `), Refused, "175 528"},
	{classAllocateMachine, []int{400}, m(`^given image is not usable for a `), Refused, "285"},
	{classAllocateMachine, []int{400}, m(`^network ids cannot be (nil|empty)$`), Refused, "180 181"},
	{classAllocateMachine, []int{400}, m(`^when no machine id is given, a (size|partition) id must be specified$`), Refused, "176 177"},
	{classAllocateMachine, []int{400}, m(`^no such protocol: |^(egress|ingress) rule with error:`), Refused, "286-290"},
	{classAllocateMachine, []int{422}, m(`^project id must be specified$|^creator should be specified$|^role does not exist: `), Refused, "178"},
	{classAllocateMachine, []int{422}, m(`^".*" is not a valid IP address$|^invalid public SSH key: `), Refused, "191 192"},
	{classAllocateMachine, []int{422}, m(`^missing ip\(s\) for network\(s\) without automatic ip allocation$|^when no ip is given at least one auto acquire network must be specified$`), Refused, "190"},
	{classAllocateMachine, []int{422}, m(`^given size:\S+ with image:\S+ does violate image constraint:`), Refused, "sizeimageconstraint.go"},
	{classAllocate, []int{404}, m(`^rpc error: code = NotFound desc = project with id:`), Refused, "079"},
	{classAllocate, []int{422}, m(`^project quota for machines reached `), Refused, "305 306 309 323 324"},
	{classAllocateMachine, []int{422}, m(`^could not find a matching filesystemLayout `), Refused, "filesystemlayout.go"},
	{classAllocateMachine, []int{422}, m(`^machine ".*" is not in the requested partition: |^machine ".*" does not have the requested size: `), Refused, "machine-service.go"},
	{classAllocateMachine, []int{422}, m(`^no machine available$`), Refused, "279 280 338 534"},
	{classAllocateMachine, []int{422}, m(`^unable to check for fsl match:`), Refused, "195"},
	{classAllocateMachine, []int{404, 422}, m(`^unable to gather networks:(` +
		`NotFound no network with id |` +
		`underlay networks are not allowed |` +
		`private super networks are not allowed |` +
		`multiple private networks are specified |` +
		`given network ids are not unique$|` +
		`no private (shared )?network |` +
		`machines (and firewalls )?are not allowed to be placed into multiple private|` +
		`the given private network does not belong to the project|` +
		`given ip "|` +
		`private network ".*" must be located in the partition|` +
		`the private network ".*" has no auto ip acquisition|` +
		`no underlay found in the given partition:)`), Refused, "182-188 250 251"},
	{classAllocateMachine, []int{422, 500}, m(`^unable to make networks:.*(no ips left$|does not have prefixes configured$)`), Refused, "machine-service.go"},

	// Refusals of network allocate.
	{classAllocateNetwork, []int{400}, m(`^(partitionid|projectid) should not be empty$`), Refused, "078"},
	{classAllocateNetwork, []int{404}, m(`^NotFound no (partition|network) with id `), Refused, "080"},
	{classAllocateNetwork, []int{400}, m(`^no supernetwork found$|^addressfamily |^given prefix .* is not a valid ip with mask`), Refused, "network-service.go"},
	{classAllocateNetwork, []int{422}, m(`^cannot allocate free child prefix in ipam: .*\binvalid_argument: `), Refused, "081"},
	{classAllocateNetwork, []int{422}, m(`^cannot allocate free child prefix in one of the given parent prefixes in ipam: `), Refused, "network-service.go"},

	// Refusals of ip allocate.
	{classAllocateIP, []int{400}, m(`^(networkid|projectid) should not be empty$`), Refused, "125"},
	{classAllocateIP, []int{404}, m(`^NotFound no network with id `), Refused, "123"},
	{classAllocateIP, []int{422}, m(`^specific ip not contained in any of the defined prefixes$|^unable to parse specific ip: |^network \S* does not have prefixes configured$`), Refused, "119 120"},
	{classAllocateIP, []int{400, 422}, m(`^it is not possible to specify specificIP and addressfamily$|^there is no prefix for the given addressfamily:|^given addressfamily:".*" is invalid$`), Refused, "122 129"},
	{classAllocateIP, []int{422}, m(`^can not allocate ip for project ".*" because network belongs to `), Refused, "128"},
	{classAllocateIP, []int{500}, m(`^Internal cannot allocate free ip in ipam, no ips left$`), Refused, "132 528"},

	// Refusals of free.
	{classFree, []int{422}, m(`^machine is locked$`), Refused, "263"},
	{classFree, []int{400}, m(`^ip with machine scope can not be deleted$`), Refused, "154 236"},
	// A super network has no parent prefix to give back to.
	{classFree, []int{422}, m(`^error releasing child prefix in ipam: invalid_argument: NotFound: unable to find prefix for cidr:"" `), Refused, "105"},
	{classFree, []int{404}, m(`^NotFound no (machine|network|ip) with id `), NotFound, "095 108 134 156 202"},

	// Reads of what is not there. A machine without an event container is (327).
	{classRead, []int{404}, m(`^NotFound no |^rpc error: code = NotFound |^error finding provisioning event container |^machine is not a firewall$`), NotFound, "023 027 031 034 044 045 085 138 166 167 298 327"},
}

// outage is what a backend that does not answer puts into a message: network
// errors, the codes of gRPC (masterdata) and connect (ipam), and RethinkDB's.
var outage = m(`connection refused|connection reset|connection error|broken pipe|no such host|no route to host|i/o timeout|dial tcp|use of closed network|` +
	`context (canceled|deadline exceeded)|Client\.Timeout|timeout awaiting|` +
	`code = (Unavailable|DeadlineExceeded|Canceled|Internal|Unknown|Aborted|ResourceExhausted)|` +
	`\b(unavailable|deadline_exceeded|canceled|internal|unknown|aborted): |` +
	`\brethinkdb: |: (unexpected )?EOF$`)

func m(pattern string) *regexp.Regexp { return regexp.MustCompile(pattern) }

func (r *rule) fits(c class, status int, message string) bool {
	return r.class&c != 0 &&
		(len(r.status) == 0 || slices.Contains(r.status, status)) &&
		r.message.MatchString(message)
}

// classify returns what the answer of an operation of class c means.
func classify(c class, status int, message string) Kind {
	for i := range rules {
		if rules[i].fits(c, status, message) {
			return rules[i].kind
		}
	}
	if c == classRead {
		return Unavailable
	}
	return Uncertain
}

// teach adds what to do about failures whose own words mislead.
func teach(status int, message string) string {
	switch {
	case status == http.StatusNotFound && rules[0].message.MatchString(message):
		return message + ": the metal-api does not know this path at all; is the base path of its URL right (…/metal)?"
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return cmp.Or(message, http.StatusText(status)) + ": the metal-api does not accept this server's credential; check HMAC, its type and the clocks"
	case status >= 300 && status < 400:
		return "redirected, which is not followed: is the metal-api's URL right (http or https)?"
	}
	return cmp.Or(message, http.StatusText(status))
}
