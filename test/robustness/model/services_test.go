// SPDX-License-Identifier: Apache-2.0

package model

// The third model is of the addresses of Services: one address, the release of a
// cluster, and the requests of two metal-ccms, of the cluster and of another one, which
// the server makes one after the other (serviceAddressOperation). Each step of
// releaseServiceAddresses, freeServiceAddress, removeServiceTags and serviceCluster is one
// here. What a free or an update does is to the address, whoever has it by then.

// caution is something that the release of the addresses keeps to, and that a test can break.
type caution int

const (
	_ caution = iota // none
	// A request is refused once the release is recorded (serviceCluster).
	refusesRequests
	// What began before is waited for (releaseServiceAddresses),
	awaitsRequests
	// also if its answer was lost (uncertainAddresses).
	awaitsLostRequests
	// An address is freed only if all of its tags are the cluster's (isOnlyOurs),
	countsTags
	// and it is ephemeral (isOnlyOurs).
	keepsStatic
	// That is observed right before the call (serviceAddressFreer).
	looksBeforeFreeing
	// A call that frees, of before a crash, is waited for (ensureFreed).
	awaitsFrees
	// Tags are taken as they are right before the call that replaces them (removeServiceTags).
	readsTagsBeforeReplacing
	// An address that only the cluster has by then is freed instead (removeServiceTags).
	freesWhatOthersLeft
	// Another cluster's Services get no address that Services of the cluster have (checkAddable).
	refusesOthersAddresses
	// An address is not changed while a call whose answer was lost may change it
	// (checkNoCallInFlight, removeServiceTags).
	refusesLostAddresses
	// A release that is refused keeps the start of a call that may be in flight
	// (recordReleaseRefusal).
	keepsStart
)

// The tags of an address.
const (
	ours uint8 = 1 << iota
	theirs
	users
)

// serviceAddress is the address. uuid counts its allocations.
type serviceAddress struct {
	allocated  bool
	uuid, tags uint8
}

// services is what there is before anything happens, and how often what can happen.
type services struct {
	address serviceAddress
	static  bool
	// requests of metal-ccms, crashes of the server, losses of answers, reads of the release
	// that fail.
	requests, crashes, losses, failures uint8
	// foreignTags, foreignFrees are what other clients of the metal-api do.
	foreignTags, foreignFrees uint8
	// late is the verb of the requests of metal-ccms that are worked on after the server has
	// crashed.
	late uint8
	// atAnyTime: other clients change the address also between an observation and the
	// effect of a call.
	atAnyTime bool
	broken    caution
}

// Who works. A call of the release that a crash, or a lost answer, left is a call of its own.
const (
	release uint8 = iota
	ccm
	otherCCM
	outsider
	orphaned = outsider
)

// The places at which a release, or a request, can be stopped.
const (
	releaseSettle uint8 = iota + 1
	releaseAwait
	releaseList
	releaseLook
	releaseFree
	releaseFreeWait
	releaseLock
	releaseRead
	releaseReplace
	releaseReplaceWait
	releaseDone
	requestRead
	requestCall
	requestWait
)

// The verbs of calls, and of requests.
const (
	allocateIt uint8 = iota + 1
	tagIt
	untagIt
	freeIt
)

// serviceWorker is a release or a request under way, and what it saw.
type serviceWorker struct {
	at, verb uint8
	seen     serviceAddress
}

// serviceCall is a call of the metal-api, in the stages of freeing.
type serviceCall struct{ stage, verb, uuid, tags uint8 }

// serviceState is all that there is. It is comparable.
type serviceState struct {
	address serviceAddress
	// phase is the cluster's.
	phase uint8
	// lock is held by a worker, by its number from 1.
	lock    uint8
	workers [3]serviceWorker
	calls   [4]serviceCall
	// lost: the server knows that the answer to a call was lost.
	lost [4]bool
	// forgotten: the record does not say any more that a free may be in flight.
	forgotten bool
	left      struct{ requests, crashes, losses, failures, foreignTags, foreignFrees uint8 }
}

func (v services) explore() found {
	s := serviceState{address: v.address, phase: allocated}
	s.left.requests, s.left.crashes, s.left.losses, s.left.failures = v.requests, v.crashes, v.losses, v.failures
	s.left.foreignTags, s.left.foreignFrees = v.foreignTags, v.foreignFrees
	return space[serviceState]{
		start: s, next: v.next, wrong: v.wrong, quiet: v.quiet,
		who: []string{"release", "metal-ccm", "other ccm", "outsider"},
	}.explore()
}

func (v services) keeps(c caution) bool { return v.broken != c }

// freeable reports whether an address is one that the cluster, whose tag is own, may free.
func (v services) freeable(a serviceAddress, own uint8) bool {
	return a.allocated && a.tags&own != 0 && (a.tags == own || !v.keeps(countsTags)) && (!v.static || !v.keeps(keepsStatic))
}

// wrong says which promise a state breaks.
func (v services) wrong(s *serviceState) string {
	switch {
	case !v.quiet(s) || !s.address.allocated:
		return ""
	case s.address.tags&ours != 0:
		return "an address keeps a tag of a cluster that is gone"
	case s.address.tags == 0 && !v.static && (v.address.tags != 0 || s.address.uuid != v.address.uuid):
		// What had no tag before is left alone.
		return "an address is left that no cluster has"
	}
	return ""
}

// quiet: the cluster is released, and nothing is under way.
func (v services) quiet(s *serviceState) bool {
	return s.phase == released && s.workers == [3]serviceWorker{} && s.calls == [4]serviceCall{}
}
