package infrastructure

// The types of condition.
const (
	// ConditionReady is the summary: True while the metal exists and is alive. It
	// can go back to False. Cluster API mirrors it to InfrastructureReady.
	ConditionReady = "Ready"
	// ConditionAllocated is about the allocation: True while the object holds
	// metal. A refusal of the metal-api is quoted in the message.
	ConditionAllocated = "Allocated"
	// ConditionPaused is True while the controller does not reconcile the object.
	ConditionPaused = "Paused"
	// ConditionDeleting is True while the object is being deleted; the reason says
	// what the deletion waits for.
	ConditionDeleting = "Deleting"
	// ConditionFirewallReady is about the firewall that the controller creates for
	// a cluster with a firewallSpec: True while one that matches the spec runs.
	ConditionFirewallReady = "FirewallReady"
)

// Reasons of Ready. It is True with the first two, and sometimes with the third.
// Before an allocation, the reason may be that of Allocated; while a release does
// not go on, it is ReleaseRefused, ReleaseUncertain or MetalAPIUnavailable.
const (
	// ReasonPhonedHome: the machine or firewall runs and reports.
	ReasonPhonedHome = "PhonedHome"
	// ReasonAvailable: network and address of the cluster are there.
	ReasonAvailable = "Available"
	// ReasonExternallyManaged: the infrastructure is managed externally, and Ready
	// is what the external manager reported.
	ReasonExternallyManaged = "ExternallyManaged"

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
	// ReasonNotObserved: the server has not looked at the metal since it started.
	ReasonNotObserved = "NotObserved"
	// ReasonAllocationGone: the allocation ended without our doing. The server is
	// not ours any more, and a MachineHealthCheck may replace the machine.
	ReasonAllocationGone = "AllocationGone"
	// ReasonNetworkGone, ReasonAddressGone: the cluster's private network or
	// control plane address is not there any more.
	ReasonNetworkGone = "NetworkGone"
	ReasonAddressGone = "AddressGone"
	// ReasonReleasing: the metal is being released. Shared with Allocated and
	// Deleting, where nothing holds the release up.
	ReasonReleasing = "Releasing"
	// ReasonReleased: the metal was given back.
	ReasonReleased = "Released"
)

// Reasons of Allocated. It is True with the first two only. Releasing, Released,
// AllocationGone, NetworkGone and AddressGone are shared with Ready.
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
	// ReasonMetalAPIUnavailable: the metal-api or one of its backends does not
	// answer, in the words of the message; nothing was allocated, and no allocation
	// was taken away, though a release may have begun at the metal. It is tried
	// again. It stands for claims, releases and the condition Deleting alike.
	ReasonMetalAPIUnavailable = "MetalAPIUnavailable"
	// ReasonReleaseUncertain: the answer to a release was lost; before another
	// attempt the server makes sure that the lost one cannot be at work any more.
	ReasonReleaseUncertain = "ReleaseUncertain"
	// ReasonReleaseRefused: the metal is not released, and the message says why:
	// the metal-api refused (a locked machine, an address in use). Shared with
	// Ready and Deleting.
	ReasonReleaseRefused = "ReleaseRefused"
	// ReasonOwnershipMismatch: release was asked for, but the metal belongs to somebody
	// else by now, and was not touched.
	ReasonOwnershipMismatch = "OwnershipMismatch"
)

// Reasons for which a controller waits before it asks for metal; they too are
// reasons of Allocated, which is False then. A controller sets them while no
// allocation has begun, and the server everything else.
const (
	// ReasonWaitingForOwner: Cluster API has not set the owner reference yet.
	ReasonWaitingForOwner = "WaitingForOwner"
	// ReasonWaitingForClusterInfrastructure: the cluster's network is not there yet.
	ReasonWaitingForClusterInfrastructure = "WaitingForClusterInfrastructure"
	// ReasonWaitingForFirewall: no firewall of the cluster has ever phoned home,
	// so that a machine would not reach anything at its first boot.
	ReasonWaitingForFirewall = "WaitingForFirewall"
	// ReasonWaitingForBootstrapData: the Secret with the user data does not exist
	// yet, or the companion may not read it yet.
	ReasonWaitingForBootstrapData = "WaitingForBootstrapData"
	// ReasonBootstrapDataInvalid: the Secret is there, but does not hold what a
	// machine can boot with.
	ReasonBootstrapDataInvalid = "BootstrapDataInvalid"
)

// Reasons of Deleting. Releasing, ReleaseRefused and MetalAPIUnavailable are
// shared with Ready and Allocated.
const (
	// ReasonOwnerNotFound: the object is being deleted, but an owner that it
	// names cannot be found, so the garbage collector may be wrong: the metal is
	// kept until somebody insists with ForceReleaseAnnotation.
	ReasonOwnerNotFound = "OwnerNotFound"
	// ReasonGarbageCollected: the garbage collector deleted the object or one of
	// its owners, and no owner or Cluster is being deleted that would explain it.
	// The metal is kept until one is, or until the object has ForceReleaseAnnotation.
	ReasonGarbageCollected = "GarbageCollected"
	// ReasonMarkedBeforeTakeover: the object was marked for deletion before its
	// namespace took over the records of an earlier one of its name. The metal is
	// kept until the object has ForceReleaseAnnotation.
	ReasonMarkedBeforeTakeover = "MarkedBeforeTakeover"
	// ReasonOwnerLookupFailed: whether an owner is there cannot be found out at the
	// moment. The metal is kept, and it is tried again.
	ReasonOwnerLookupFailed = "OwnerLookupFailed"
	// ReasonWaitingForMachines: the cluster still has machines.
	ReasonWaitingForMachines = "WaitingForMachines"
	// ReasonWaitingForFirewalls: the cluster still has firewalls.
	ReasonWaitingForFirewalls = "WaitingForFirewalls"
	// ReasonWaitingForLoadBalancers: a control plane machine keeps answering for
	// a while, until load balancers have noticed.
	ReasonWaitingForLoadBalancers = "WaitingForLoadBalancers"
)

// Reasons of FirewallReady. PhonedHome, with which it is True, is shared with
// Ready.
const (
	// ReasonFirewallProvisioning: a firewall is on its way to its first `Phoned
	// Home`.
	ReasonFirewallProvisioning = "Provisioning"
	// ReasonFirewallRollingOut: a firewall like the spec is on its way; the one
	// before it serves until then.
	ReasonFirewallRollingOut = "RollingOut"
	// ReasonFirewallReplacing: the firewall is gone or broken, and another one is
	// on its way.
	ReasonFirewallReplacing = "Replacing"
	// ReasonFirewallNotReady: the firewall has phoned home once, and does not run
	// now.
	ReasonFirewallNotReady = "NotReady"
	// ReasonFirewallCreationRefused: the firewall cannot be made as the spec says.
	ReasonFirewallCreationRefused = "CreationRefused"
	// ReasonFirewallNameTaken: a firewall that is not the cluster's has the name
	// of the one that is to be made.
	ReasonFirewallNameTaken = "NameTaken"
)

// Reasons of Paused.
const (
	ReasonPaused    = "Paused"
	ReasonNotPaused = "NotPaused"
)
