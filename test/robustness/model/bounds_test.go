// SPDX-License-Identifier: Apache-2.0

// Package model checks the allocation protocol (pkg/allocation) for itself, by
// trying every order in which its steps, the metal-api's and the environment's can
// come. docs/allocation.md is its legend: which step is which function.
//
// The model is one object, two machines, two servers over one record, and a
// clock that ticks. What can go wrong has a budget, so that there is an end to
// it: explore follows all that can happen within it. A second model is of adoption
// (adoption_test.go), a third of the addresses of Services (services_test.go).
package model

// The times of allocation.Timing, in ticks. They are as short as they can be
// without two of them falling together.
const (
	begin = 1 // from recording a call to making it
	call  = 1 // until a client gives up waiting for its answer
	lost  = 2 // until the metal-api has given up what nobody waits for
	open  = begin + call + lost
)

// rule is something that the protocol keeps to, and that a test can break.
type rule int

const (
	_ rule = iota // none
	// A call comes after a look for what carries the identity (ensureAllocated).
	looksBeforeCalling
	// An open call is waited for before another is made (awaitOutcome).
	waitsForOpenCalls
	// ... for as long as the metal-api can be working on it.
	waitsLongEnough
	// An answer that was lost is no refusal (metal.classify, ensureAllocated).
	takesLossForLoss
	// An attempt is begun only in the place of the one that was seen (beginAttempt).
	beginsByCompareAndSwap
	// An attempt is given up only by who began it (recordRefusal).
	givesUpItsOwnAttempt
	// What was allocated is recorded only over the attempt that was begun, or seen (recordAllocated).
	recordsOverItsOwnAttempt
	// Who was stopped between recording and calling starts over (ensureAllocated, ensureFreed).
	startsOverWhenLate
	// Only what project, allocation and identity say is ours is freed (ownershipOf).
	checksIdentity
	// An open call that frees is waited for before another is made (awaitFreeOutcome).
	waitsForOpenFrees
	// A release is begun anew only in the place of the one that was seen (beginRelease).
	beginsFreeByCompareAndSwap
	// A release is of the record that was read (releaseMachineLike).
	releasesWhatItRead
	// Only the server that began a release records its refusal (recordReleaseRefusal).
	holdsBackItsOwn
	// A release looks for what an attempt may have left (releaseMachineLike).
	looksForWhatWasLost
	// A Recoverer frees no duplicate that a predecessor may be freeing (releaseDuplicates).
	waitsBeforeSweeping
	// ... and waits for the outcome of its own frees (releaseDuplicate).
	waitsForOwnFrees
	// Who lost the Lease begins no write (replica.Fence).
	fences
)

// bounds say what can happen in an exploration, and how often.
type bounds struct {
	// lease: one server acts, until it loses its Lease; otherwise both do.
	lease bool
	// takeovers of the Lease, and crashes of servers at any step.
	takeovers, crashes uint8
	// losses of answers; refusals by the metal-api, or of a look.
	losses, refusals uint8
	// stalls: a server stops for longer than it may between record and call.
	stalls uint8
	// lateCalls: a server stops after the last question that it asks before it
	// calls to allocate, where no check can notice.
	lateCalls uint8
	// deletions of the object; without one, it is kept.
	deletions uint8
	// foreignFrees are frees of our machine by other clients; foreignAllocations
	// are allocations of freed machines for another project.
	foreignFrees, foreignAllocations uint8
	// wipe is how long a freed machine cannot be given to anybody.
	wipe uint8
	// kept: the record of a released object is not deleted.
	kept bool
	// broken is the rule that is not kept to.
	broken rule
}
