// SPDX-License-Identifier: Apache-2.0

package client

import "metal-stack.io/infrastructure-apiserver/pkg/metal"

// What rules say about why an answer is decided, or is not.
const (
	notThisCall   = "the router, the credential check or a proxy answers: no handler was reached"
	checkedFirst  = "is checked before anything is changed"
	beforeChoice  = "comes before a machine is chosen; nothing is allocated after it"
	rolledBack    = "comes before the allocation is written; the choice of the machine is rolled back"
	backendBefore = "a backend that is asked before anything is changed does not answer; the handler ends there"
	backendAny    = "a backend went away in the middle: the write may have reached it"
)

// rules are tried in this order; the first that fits decides. The numbers in the
// fourth column and in comments are recordings, see rule.from.
var rules = []rule{
	// Not the metal-api's doing, or not this call's.
	{classAny, []int{404, 405, 415}, pattern(`^40[45]: |^415: `), metal.Unavailable, "013 014 016 528 2/511", notThisCall},
	{classAny, []int{401, 403}, pattern(``), metal.Unavailable, "004 006-008 010 011 199 528 2/469 2/558", notThisCall},
	{classAny, []int{429}, pattern(``), metal.Busy, "(proxies)", notThisCall},
	{classAny, []int{400}, pattern(`^json: |^(unexpected )?EOF$`), metal.Refused, "017-019 198 2/438 2/550 2/553 2/586", "the body cannot be decoded"},

	// Outages of which the message says that nothing was allocated, and that no
	// allocation was taken away: the call ends before that step.
	{classFree, []int{422}, pattern(`^cannot publish delete event: `), metal.Unavailable, "399 2/093",
		"the machine's allocation is taken away after this step, which failed, so it is still there, and the call can be made again. Its switch ports are reset by then, and if the acknowledgement was lost, the event may have been delivered"},
	{classFree, []int{422}, pattern(`^cannot delete vrf switches: `), metal.Unavailable, "async-actor.go",
		"comes before the delete event and before the allocation is taken away"},
	{classFree, []int{422}, pattern(`^cannot find (machine|network|ip) with id ".*" in database: `), metal.Unavailable, "machine-service.go network-service.go ip-service.go", backendBefore},
	{classAllocate, []int{422}, pattern(`^rpc error: code = (Unavailable|DeadlineExceeded|Canceled|Internal|Unknown|Aborted|ResourceExhausted) `), metal.Unavailable, "378-380",
		"only masterdata answers so, which is asked for the project before anything is changed"},
	{classAllocate, []int{422}, pattern(`^error retrieving project ".*"$`), metal.Unavailable, "ip-service.go", backendBefore},
	{classAllocateMachine, []int{400}, outage, metal.Unavailable, "408",
		"400 is answered only while the request is looked at (createMachineAllocationSpec), which reads and writes nothing"},
	{classAllocateMachine, []int{422}, pattern(`^cannot (find|search|list) \w+ (with id ".*" )?(in|from) database: |^cannot fetch all entities: |^(size|partition) cannot be found: cannot `), metal.Unavailable, "machine-service.go",
		"these words stand at the beginning only of what fails before the machine is chosen; later failures begin with `unable to` or `error`"},
	{classAllocateMachine, []int{422}, pattern(`^failed to create new (VPN user|auth key) for `), metal.Unavailable, "firewall-service.go", "the VPN is prepared before the allocation begins"},
	{classAllocateNetwork | classAllocateIP, []int{422}, pattern(`^cannot find (network|partition) (with id ".*" )?in database: `), metal.Unavailable, "406 407", backendBefore},
	{classAllocateNetwork, []int{422}, pattern(`^could not acquire a vrf: `), metal.Unavailable, "network-service.go", "the network is written after this step; at most a VRF is lost"},

	// All other outages. Among them are some after which nothing is allocated,
	// but something is still cleaned up (`unable to make networks:`, 389): these
	// wait, too, since the clean-up takes the addresses of the next allocation of
	// the same machine (docs/metal-api.md, Q36).
	{classReads, nil, outage, metal.Unavailable, "377 384 385 401-405", "nothing is changed by a read"},
	{classReinstall, []int{409, 422}, pattern(`^cannot delete vrf switches: `), metal.Uncertain, "async-actor.go",
		"the machine is marked by then: its next boot from the network installs the image. A lost update of its switches is answered as a conflict"},
	{classWrite, nil, outage, metal.Uncertain, "387-389 2/081-2/083 2/085 2/089",
		backendAny + ". Of off, reset, cycle and the LED, the event or the state is written by then, and of a reinstallation the machine is marked (2/090)"},
	{classRead, nil, halfFreedNetwork, metal.Unavailable, "514-516 520", "a network that was freed halfway: every read of it fails, for good"},

	// Conflicts with other clients of the metal-api.
	{classWrite, []int{409}, pattern(`the entity was changed from another, please retry$`), metal.Conflict, "272-275", "the write was refused, but what comes before it may be done (273)"},
	{classAllocateIP, []int{409}, pattern(`^Conflict ip already allocated`), metal.Conflict, "117 118 157 2/516", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^machine is already allocated$|^machine ".*" already allocated$`), metal.Conflict, "241 341 2/212 2/213 2/268", "it may be an earlier call of ours that took it"},
	{classFree, []int{422}, pattern(`^error releasing child prefix in ipam: .* has ips, (deletion|delete prefix) not possible$`), metal.Conflict, "109 237 513 541 2/595",
		"the prefixes of a network are freed one by one: the first may be gone when the second turns out to have addresses (513)"},

	{classAllocateMachine, []int{422}, pattern(`^too many parallel machine allocations taking place`), metal.Busy, "349",
		"the partition's lock was not had, which comes before the choice of a machine. (`unable to release shared mutex` is a line in the metal-api's log, and no answer: the lock then expires, and this is what others are answered)"},

	// Refusals of machine and firewall allocate, in the order in which the
	// metal-api checks. An answer `NotFound …` that is not named here can come
	// after the machine was allocated (machine-service.go, makeMachineResponse).
	{classAllocateMachine, []int{400, 404}, pattern(`^NotFound no (image for id:|image with id |filesystemlayout with id |size with id |partition with id )`), metal.Refused, "170-172 194 2/423 2/424", checkedFirst},
	{classAllocateMachine, []int{400, 404}, pattern(`^size:\S* not found err:NotFound |^partition:\S* not found err:NotFound |^uuid given but no machine found with uuid:\S* err:NotFound |^(size|partition) cannot be found: NotFound `), metal.Refused, "175 528", checkedFirst},
	{classAllocateMachine, []int{400}, pattern(`^given image is not usable for a `), metal.Refused, "285", checkedFirst},
	{classAllocateMachine, []int{400}, pattern(`^network ids cannot be (nil|empty)$`), metal.Refused, "180 181", checkedFirst},
	{classAllocateMachine, []int{400}, pattern(`^when no machine id is given, a (size|partition) id must be specified$`), metal.Refused, "176 177", checkedFirst},
	{classAllocateMachine, []int{400}, pattern(`^no such protocol: |^(egress|ingress) rule with error:`), metal.Refused, "286-290", checkedFirst},
	{classAllocateMachine, []int{400}, pattern(`^please specify a maximum of \w+ (dns|ntp) servers$|^(ip|dns name): .* for (dns|ntp) server not correct\b`), metal.Refused, "2/427-2/429 2/436 2/437", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^project id must be specified$|^creator should be specified$|^role does not exist: `), metal.Refused, "178", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^".*" is not a valid IP address$|^invalid public SSH key: `), metal.Refused, "191 192", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^missing ip\(s\) for network\(s\) without automatic ip allocation$|^when no ip is given at least one auto acquire network must be specified$`), metal.Refused, "190", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^given size:\S+ with image:\S+ does violate image constraint:`), metal.Refused, "2/399 2/647", checkedFirst},
	{classAllocate, []int{404}, pattern(`^rpc error: code = NotFound desc = project with id:`), metal.Refused, "079 2/472 2/556", checkedFirst},
	{classAllocate, []int{422}, pattern(`^project quota for machines reached `), metal.Refused, "305 306 309 323 324", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^could not find a matching filesystemLayout `), metal.Refused, "filesystemlayout.go", checkedFirst},
	{classAllocateMachine, []int{422}, pattern(`^machine ".*" is not in the requested partition: |^machine ".*" does not have the requested size: `), metal.Refused, "machine-service.go", beforeChoice},
	{classAllocateMachine, []int{422}, pattern(`^no machine available$`), metal.Refused, "279 280 338 534 2/302 2/365", beforeChoice},
	{classAllocateMachine, []int{422}, pattern(`^unable to check for fsl match:`), metal.Refused, "195 2/422", rolledBack},
	{classAllocateMachine, []int{404, 422}, pattern(`^unable to gather networks:(` +
		`NotFound no (network|ip|partition) with id |` +
		`partition cannot be found: NotFound |` +
		`partition \S+ does not have a private super network$|` +
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
		`more than one underlay network in partition |` +
		`no underlay found in the given partition:)`), metal.Refused, "182-188 250 251 2/587-2/590 2/675 2/678", rolledBack},
	{classAllocateMachine, []int{422, 500}, pattern(`^unable to make networks:.*(no ips left$|does not have prefixes configured$)`), metal.Refused, "machine-service.go", rolledBack},

	// Refusals of network allocate.
	{classAllocateNetwork, []int{400}, pattern(`^(partitionid|projectid) should not be empty$`), metal.Refused, "078 2/554 2/555", checkedFirst},
	{classAllocateNetwork, []int{404}, pattern(`^NotFound no (partition|network) with id `), metal.Refused, "080 2/557", checkedFirst},
	{classAllocateNetwork, []int{400}, pattern(`^no supernetwork found$|^addressfamily |^given prefix .* is not a valid ip with mask`), metal.Refused, "2/536 2/551 2/561", checkedFirst},
	{classAllocateNetwork, []int{404, 422, 500}, pattern(`^NotFound no network found$|^more than one network exists$|^supernetwork \S+ has no defaultchildprefixlength specified$`), metal.Refused, "network-service.go", checkedFirst},
	{classAllocateNetwork, []int{422}, pattern(`^cannot allocate free child prefix in ipam: .*\binvalid_argument: `), metal.Refused, "081 2/544 2/547-2/549", "the network is written after its prefixes; at most a prefix of the other address family and a VRF are lost"},
	{classAllocateNetwork, []int{422}, pattern(`^cannot allocate free child prefix in one of the given parent prefixes in ipam: `), metal.Refused, "network-service.go", "the network is written after its prefixes"},

	// Refusals of ip allocate.
	{classAllocateIP, []int{400}, pattern(`^(networkid|projectid) should not be empty$`), metal.Refused, "125 2/471", checkedFirst},
	{classAllocateIP, []int{404}, pattern(`^NotFound no network with id `), metal.Refused, "123 2/470", checkedFirst},
	{classAllocateIP, []int{422}, pattern(`^specific ip not contained in any of the defined prefixes$|^unable to parse specific ip: |^network \S* does not have prefixes configured$`), metal.Refused, "119 120", checkedFirst},
	{classAllocateIP, []int{400, 422}, pattern(`^it is not possible to specify specificIP and addressfamily$|^there is no prefix for the given addressfamily:|^given addressfamily:".*" is invalid$`), metal.Refused, "122 129", checkedFirst},
	{classAllocateIP, []int{422}, pattern(`^can not allocate ip for project ".*" because network belongs to `), metal.Refused, "128 2/519 2/520", checkedFirst},
	{classAllocateIP, []int{422}, pattern(`^cannot allocate ip in prefix \S+ in ipam: invalid_argument: `), metal.Refused, "2/523", "the ipam refuses the prefix, and nothing is written"},
	{classAllocateIP, []int{500}, pattern(`^Internal cannot allocate free ip in ipam, no ips left$`), metal.Refused, "132 528 2/515", "the ipam has none, and nothing is written"},

	// Refusals of free.
	{classFree, []int{422}, pattern(`^machine is locked$`), metal.Refused, "263 2/258 2/259", checkedFirst},
	{classFree, []int{400}, pattern(`^ip with machine scope can not be deleted$`), metal.Refused, "154 236 2/509", checkedFirst},
	{classFree, []int{422}, pattern(`^error releasing child prefix in ipam: invalid_argument: NotFound: unable to find prefix for cidr:"" `), metal.Refused, "105", "a super network has no parent prefix to release to"},
	{classFree, []int{404}, pattern(`^NotFound no (machine|network|ip) with id `), metal.NotFound, "095 108 134 156 202 2/510", "it is looked up first"},

	// Refusals of operations of a machine. A lock does not keep its power from being
	// switched.
	{classOperate, []int{404}, pattern(`^NotFound no machine with id `), metal.NotFound, "2/057 2/058 2/061 2/062 2/065 2/224 2/279", "it is looked up first"},
	{classReinstall, []int{400}, pattern(`^machine either locked, not allocated yet or invalid image ID specified$`), metal.Refused, "2/225 2/229 2/230 2/234 2/235", checkedFirst},
	{classReinstall, []int{404}, pattern(`^error finding image ".*" for machine ".*": NotFound no image with id `), metal.Refused, "2/226", "the machine is not marked by then (2/227)"},
	{classReinstall, []int{422}, pattern(`^filesystemlayout:\S+ is not reinstallable, abort reinstallation$`), metal.Refused, "2/317", "the machine is not marked by then (2/318)"},
	{classState, []int{400}, pattern(`^you must supply a description$|^unknown MachineState:`), metal.Refused, "2/252 2/253 2/275-2/277 2/661", checkedFirst},
	{classReadSecret, []int{400}, pattern(`^reason must be at least \d+ characters long$`), metal.Refused, "2/108-2/110 2/113", checkedFirst},
	{classReadSecret, []int{422}, pattern(`^machine is not allocated, no consolepassword present$`), metal.Refused, "2/103", "there is none"},

	// Refusals of an update.
	{classUpdateIP, []int{400}, pattern(`^cannot change type of ip address `), metal.Refused, "150 2/492", checkedFirst},
	{classUpdateIP, []int{404}, pattern(`^NotFound no ip with id `), metal.NotFound, "152 2/496 2/497", "it is looked up first"},

	// Reads of what is not there.
	{classReads, []int{404}, pattern(`^NotFound no |^rpc error: code = NotFound |^error finding provisioning event container |^machine is not a firewall$`), metal.NotFound,
		"023 027 031 034 044 045 085 138 166 167 298 327 2/141 2/173-2/175 2/181-2/185 2/187 2/188 2/191 2/607",
		"it is not known; a machine without an event container is (327)"},
}

// outage is what a backend that does not answer puts into a message: network
// errors, the codes of gRPC (masterdata) and connect (ipam), and RethinkDB's.
var outage = pattern(`connection refused|connection reset|connection error|broken pipe|no such host|no route to host|i/o timeout|dial tcp|use of closed network|` +
	`context (canceled|deadline exceeded)|Client\.Timeout|timeout awaiting|` +
	`code = (Unavailable|DeadlineExceeded|Canceled|Internal|Unknown|Aborted|ResourceExhausted)|` +
	`\b(unavailable|deadline_exceeded|canceled|internal|unknown|aborted): |` +
	`\brethinkdb: |: (unexpected )?EOF$`)
