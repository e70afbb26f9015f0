package infrastructure

// The types of condition.
const (
	// ConditionReady sums up: is what the object stands for there, and alive?
	// Cluster API mirrors it to InfrastructureReady. It goes both ways.
	ConditionReady = "Ready"
	// ConditionAllocated is about the allocation: True while the object holds
	// metal. If the metal-api refused, its words are the message.
	ConditionAllocated = "Allocated"
	// ConditionPaused is True while the controller keeps its hands off.
	ConditionPaused = "Paused"
	// ConditionDeleting says how far the deletion has got.
	ConditionDeleting = "Deleting"
)

// Reasons of Ready. It is True with the first two only.
const (
	// ReasonPhonedHome: the machine or firewall runs and reports.
	ReasonPhonedHome = "PhonedHome"
	// ReasonAvailable: network and address of the cluster are there.
	ReasonAvailable = "Available"

	// ReasonNotAllocated: nothing was allocated yet; see Allocated.
	ReasonNotAllocated = "NotAllocated"
	// ReasonProvisioning: allocated, and on its way to its first `Phoned Home`.
	ReasonProvisioning = "Provisioning"
	// ReasonCrashLoop: it comes back to an earlier step over and over.
	ReasonCrashLoop = "CrashLoop"
	// ReasonUnreachable: its liveliness is Unknown or Dead, it has not been heard
	// of for minutes.
	ReasonUnreachable = "Unreachable"
	// ReasonFailedReclaim: an earlier release of the machine did not finish, so it
	// may still run what it ran before.
	ReasonFailedReclaim = "FailedReclaim"
	// ReasonUnseen: the server has not looked at the metal since it started.
	ReasonUnseen = "Unseen"
	// ReasonAllocationGone: the allocation ended without our doing. The server is
	// not ours any more, and a MachineHealthCheck may replace the machine.
	ReasonAllocationGone = "AllocationGone"
	// ReasonNetworkGone, ReasonAddressGone: the cluster's private network or
	// control plane address is not there any more.
	ReasonNetworkGone = "NetworkGone"
	ReasonAddressGone = "AddressGone"
	// ReasonReleasing: the metal is being given back.
	ReasonReleasing = "Releasing"
	// ReasonReleased: the metal was given back.
	ReasonReleased = "Released"
)

// Reasons of Allocated. It is True with the first two only. Releasing, Released
// and AllocationGone are shared with Ready.
const (
	// ReasonAllocated: the object holds metal that was allocated for it.
	ReasonAllocated = "Allocated"
	// ReasonAdopted: the object holds metal that was there before it.
	ReasonAdopted = "Adopted"

	// ReasonAllocating: an allocate call is under way.
	ReasonAllocating = "Allocating"
	// ReasonAllocationRefused: the metal-api said no, in the words of the
	// message. It is tried again after status.allocation.notBefore.
	ReasonAllocationRefused = "AllocationRefused"
	// ReasonAllocationUncertain: an answer was lost; before another attempt the
	// server makes sure that the lost one did not allocate after all.
	ReasonAllocationUncertain = "AllocationUncertain"
	// ReasonReleaseRefused: the metal-api would not take the metal back, in the
	// words of the message: a locked machine, an address in use.
	ReasonReleaseRefused = "ReleaseRefused"
	// ReasonNotOurs: release was asked for, but the metal belongs to somebody
	// else by now, and was not touched.
	ReasonNotOurs = "NotOurs"
)

// Reasons for which a controller waits; they too are reasons of Allocated.
const (
	// ReasonWaitingForClusterInfrastructure: the cluster's network is not there yet.
	ReasonWaitingForClusterInfrastructure = "WaitingForClusterInfrastructure"
	// ReasonWaitingForBootstrapData: the bootstrap provider has not written the
	// Secret with the user data yet.
	ReasonWaitingForBootstrapData = "WaitingForBootstrapData"
	// ReasonWaitingForOwner: Cluster API has not set the owner reference yet.
	ReasonWaitingForOwner = "WaitingForOwner"
)

// Reasons of Deleting.
const (
	// ReasonOwnerNotFound: the object is being deleted, but an owner that it
	// names cannot be found, so the garbage collector may be wrong: the metal is
	// kept until somebody insists with ReleaseAnnotation.
	ReasonOwnerNotFound = "OwnerNotFound"
	// ReasonWaitingForMachines: the cluster still has machines.
	ReasonWaitingForMachines = "WaitingForMachines"
	// ReasonWaitingForFirewalls: the cluster still has firewalls.
	ReasonWaitingForFirewalls = "WaitingForFirewalls"
)

// Reasons of Paused.
const (
	ReasonPaused    = "Paused"
	ReasonNotPaused = "NotPaused"
)
