// SPDX-License-Identifier: Apache-2.0

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
	// a cluster with a firewallSpec: True while one that matches the spec runs, and no other
	// one has the traffic.
	ConditionFirewallReady = "FirewallReady"
	// ConditionMatchesSpec is about the size and the image of a machine or firewall: True
	// while they are those of the spec. Metal that was adopted has it, and any other
	// while it is False. It is no part of Ready: the machine works.
	ConditionMatchesSpec = "MatchesSpec"
	// ConditionMetalAPIAccessReady is about what the controller manager keeps for a
	// cluster with spec.metalAPIAccess: True while all that metal-ccm needs is there. It is
	// not part of Ready, and does not exist without spec.metalAPIAccess.
	ConditionMetalAPIAccessReady = "MetalAPIAccessReady"
	// ConditionControlPlaneEndpointSet is about the endpoint of a cluster whose control
	// plane's provider brings it: True once it is in the spec.
	ConditionControlPlaneEndpointSet = "ControlPlaneEndpointSet"
	// ConditionFirewallControllerReady is about what the controller manager keeps for the
	// firewall-controllers of a cluster whose firewallSpec has a controller: True while all
	// that they need is there, in both clusters. It is not part of Ready.
	ConditionFirewallControllerReady = "FirewallControllerReady"
	// ConditionControllerConnected is about the firewall-controller of a firewall with
	// spec.controller: True while it reports in the workload cluster, Unknown while that
	// cannot be read.
	ConditionControllerConnected = "ControllerConnected"
	// ConditionSeedConnected is about the same: True while it reads its configuration from
	// the management cluster, as it reports.
	ConditionSeedConnected = "SeedConnected"
	// ConditionImageUpToDate is about a machine or firewall whose image is an alias: False
	// while the alias stands for a newer image than the metal has. Otherwise it does not
	// exist. It is no part of Ready.
	ConditionImageUpToDate = "ImageUpToDate"
	// ConditionDistanceApplied is about the firewall-controller of a firewall whose
	// status.distance was changed: True while it reports that distance. Since when it is False
	// is since when that distance is set.
	ConditionDistanceApplied = "DistanceApplied"
	// ConditionPowerRequested is about the power action in status.lastOperation. It does not
	// exist without one, and is no part of Ready.
	ConditionPowerRequested = "PowerRequested"
	// ConditionReinstalling is True while the metal is marked for a reinstallation, and until it
	// has phoned home after it. Otherwise it does not exist.
	ConditionReinstalling = "Reinstalling"
	// ConditionMetalIssues is True while the metal has issues that an operator of metal-stack
	// looks after. Otherwise it does not exist. It is no part of Ready.
	ConditionMetalIssues = "MetalIssues"
	// ConditionRemediated is about a remediation: True once the Node is ready again.
	ConditionRemediated = "Remediated"
)

// Reasons of Ready. It is True with the first two, and sometimes with the third.
// Before an allocation, the reason may be that of Allocated; while a release is
// held up, it is ReleaseRefused, ReleaseUncertain or MetalAPIUnavailable.
const (
	// ReasonPhonedHome: the machine or firewall runs and reports.
	ReasonPhonedHome = "PhonedHome"
	// ReasonAvailable: network and address of the cluster are there.
	ReasonAvailable = "Available"
	// ReasonExternallyManaged: the infrastructure is managed externally, and Ready
	// is what the external manager reported.
	ReasonExternallyManaged = "ExternallyManaged"

	// ReasonNotAllocated: nothing is allocated yet; the condition Allocated says why.
	ReasonNotAllocated = "NotAllocated"
	// ReasonProvisioning: allocated, and not yet phoned home.
	ReasonProvisioning = "Provisioning"
	// ReasonCrashLoop: provisioning repeatedly restarts at an earlier step.
	ReasonCrashLoop = "CrashLoop"
	// ReasonReinstalling: the metal is being reinstalled, and its operating system does not run.
	ReasonReinstalling = "Reinstalling"
	// ReasonUnreachable: its liveliness is Unknown or Dead: it has sent no event for
	// minutes.
	ReasonUnreachable = "Unreachable"
	// ReasonFailedReclaim: an earlier release of the machine did not finish, so it
	// may still run what it ran before.
	ReasonFailedReclaim = "FailedReclaim"
	// ReasonNotObserved: the API server has not observed the metal since it started.
	ReasonNotObserved = "NotObserved"
	// ReasonAllocationGone: the allocation ended without a release by this server. A
	// MachineHealthCheck may replace the machine.
	ReasonAllocationGone = "AllocationGone"
	// ReasonNetworkGone, ReasonAddressGone: the cluster's private network or control
	// plane address does not exist any more.
	ReasonNetworkGone = "NetworkGone"
	ReasonAddressGone = "AddressGone"
	// ReasonReleasing: the metal is being released. Shared with Allocated and
	// Deleting, where nothing holds the release up.
	ReasonReleasing = "Releasing"
	// ReasonReleased: the metal was released.
	ReasonReleased = "Released"
)

// Reasons of Allocated. It is True with the first two only. Releasing, Released,
// AllocationGone, NetworkGone and AddressGone are shared with Ready.
const (
	// ReasonAllocated: the object holds metal that was allocated for it.
	ReasonAllocated = "Allocated"
	// ReasonAdopted: the object holds metal that existed before it.
	ReasonAdopted = "Adopted"

	// ReasonAllocating: an allocate call is in flight.
	ReasonAllocating = "Allocating"
	// ReasonAllocationRefused: the metal-api refused the allocation; the message quotes
	// it. The next attempt begins after status.allocation.notBefore.
	ReasonAllocationRefused = "AllocationRefused"
	// ReasonAllocationUncertain: the outcome of an allocate call is unknown. It is
	// determined before another attempt.
	ReasonAllocationUncertain = "AllocationUncertain"
	// ReasonMetalAPIUnavailable: the metal-api or one of its backends does not
	// answer; the message quotes it. Nothing was allocated, and no allocation was
	// ended, though a release may have begun at the metal. It is tried again. Shared
	// by allocations, releases and the condition Deleting.
	ReasonMetalAPIUnavailable = "MetalAPIUnavailable"
	// ReasonReleaseUncertain: the outcome of a release is unknown. The next attempt
	// begins when the call cannot be in flight any more.
	ReasonReleaseUncertain = "ReleaseUncertain"
	// ReasonReleaseRefused: the metal is not released, and the message says why:
	// the metal-api refused (a locked machine, an address in use). Shared with
	// Ready and Deleting.
	ReasonReleaseRefused = "ReleaseRefused"
	// ReasonOwnershipMismatch: the metal has another owner by now, and was not released.
	ReasonOwnershipMismatch = "OwnershipMismatch"
)

// Reasons for which the controller manager waits before it requests an allocation.
// They are reasons of Allocated, which is False then, and set by the controller
// manager while no allocation has begun. All others are set by the API server.
const (
	// ReasonWaitingForOwner: Cluster API has not set the owner reference yet.
	ReasonWaitingForOwner = "WaitingForOwner"
	// ReasonWaitingForClusterInfrastructure: the cluster's network is not allocated yet.
	ReasonWaitingForClusterInfrastructure = "WaitingForClusterInfrastructure"
	// ReasonWaitingForFirewall: no firewall of the cluster has phoned home yet, so a
	// machine would have no connection at its first boot.
	ReasonWaitingForFirewall = "WaitingForFirewall"
	// ReasonWaitingForBootstrapData: the Secret with the user data does not exist
	// yet, or the controller manager may not read it yet.
	ReasonWaitingForBootstrapData = "WaitingForBootstrapData"
	// ReasonBootstrapDataInvalid: the Secret exists, but the metal cannot boot with its
	// data, or a kubeconfig for the firewall-controller cannot be added to them.
	ReasonBootstrapDataInvalid = "BootstrapDataInvalid"
	// ReasonWaitingForFirewallAccess: the token with which a firewall-controller reads its
	// configuration in the management cluster is not there yet. Without the URL of that,
	// or its certificates, the reason is ManagementURLMissing or AuthorityUnreadable.
	ReasonWaitingForFirewallAccess = "WaitingForFirewallAccess"
)

// Reasons of Deleting. Releasing, ReleaseRefused and MetalAPIUnavailable are
// shared with Ready and Allocated.
const (
	// ReasonOwnerNotFound: an owner of the object cannot be found, so the deletion may
	// be a mistake. The metal is kept until the owner is found, or until the object has
	// ForceReleaseAnnotation.
	ReasonOwnerNotFound = "OwnerNotFound"
	// ReasonGarbageCollected: the garbage collector deleted the object or one of
	// its owners, and no owner or Cluster is being deleted that would explain it.
	// The metal is kept until one is, or until the object has ForceReleaseAnnotation.
	ReasonGarbageCollected = "GarbageCollected"
	// ReasonMarkedBeforeTakeover: the object was marked for deletion before its
	// namespace took over the records of an earlier one of its name. The metal is
	// kept until the object has ForceReleaseAnnotation.
	ReasonMarkedBeforeTakeover = "MarkedBeforeTakeover"
	// ReasonOwnerLookupFailed: an owner cannot be read. The metal is kept, and the
	// lookup is tried again.
	ReasonOwnerLookupFailed = "OwnerLookupFailed"
	// ReasonWaitingForMachines: the cluster still has machines.
	ReasonWaitingForMachines = "WaitingForMachines"
	// ReasonWaitingForFirewalls: the cluster still has firewalls.
	ReasonWaitingForFirewalls = "WaitingForFirewalls"
	// ReasonInUse: clusters, addresses, machines or Services use the network or the address.
	ReasonInUse = "InUse"
	// ReasonWaitingForLoadBalancers: a control plane machine keeps running until load
	// balancers have removed it.
	ReasonWaitingForLoadBalancers = "WaitingForLoadBalancers"
)

// Reasons of FirewallReady. PhonedHome, with which it is True, is shared with
// Ready.
const (
	// ReasonFirewallProvisioning: a firewall is allocated or installed, and has not
	// phoned home yet.
	ReasonFirewallProvisioning = "Provisioning"
	// ReasonFirewallRollingOut: a firewall that matches the spec is being provisioned, or has
	// not taken over yet; its predecessor serves until then.
	ReasonFirewallRollingOut = "RollingOut"
	// ReasonFirewallReplacing: the firewall is gone or unhealthy, and its replacement is
	// being provisioned.
	ReasonFirewallReplacing = "Replacing"
	// ReasonFirewallNotReady: the firewall has phoned home before, and is not ready now.
	ReasonFirewallNotReady = "NotReady"
	// ReasonFirewallCreationRefused: the API server refused to create the firewall.
	ReasonFirewallCreationRefused = "CreationRefused"
	// ReasonFirewallNameTaken: a firewall of another owner has the name of the one to
	// create.
	ReasonFirewallNameTaken = "NameTaken"
	// ReasonFirewallUpdateRefused: the firewall runs, and the API server refused to change
	// what firewallSpec says otherwise now and can be changed while it runs.
	ReasonFirewallUpdateRefused = "UpdateRefused"
)

// Reasons of DistanceApplied.
const (
	// ReasonDistanceApplied: the firewall-controller reports status.distance. The only one with
	// which it is True.
	ReasonDistanceApplied = "DistanceApplied"
	// ReasonDistancePending: the firewall-controller has reported another distance last, or
	// none.
	ReasonDistancePending = "DistancePending"
)

// Reasons of MatchesSpec.
const (
	// ReasonMatchesSpec: size and image are those of the spec.
	ReasonMatchesSpec = "MatchesSpec"
	// ReasonOtherSize: the machine has another size than spec.machineType, as one can
	// that was adopted. If the image is another one, too, the message says so.
	ReasonOtherSize = "OtherSize"
	// ReasonOtherImage: another image is installed than spec.image, on a machine that
	// was adopted, or was reinstalled by another client of the metal-api.
	ReasonOtherImage = "OtherImage"
)

// ReasonNewerImageAvailable is the only reason of ImageUpToDate, which is False then: the
// image of the spec is an alias that stands for a newer image than is installed.
const ReasonNewerImageAvailable = "NewerImageAvailable"

// Reasons of MetalAPIAccessReady. NotAllocated is shared with Ready; CreationRefused and
// NameTaken have the names of reasons of FirewallReady.
const (
	// ReasonMetalAPIAccessProvided: ServiceAccount, Role, RoleBinding, token and the Secret
	// for a ClusterResourceSet are there. The only one with which it is True.
	ReasonMetalAPIAccessProvided = "Provided"
	// ReasonManagementURLMissing: the controller manager runs without
	// --management-cluster-url, so it does not know the URL for workload clusters.
	ReasonManagementURLMissing = "ManagementURLMissing"
	// ReasonWaitingForToken: the kube-controller-manager has not written the token of the
	// ServiceAccount into its Secret yet.
	ReasonWaitingForToken = "WaitingForToken"
	// ReasonMetalAPIAccessNameTaken: an object of that name exists, and the cluster does not
	// control it. It is not changed.
	ReasonMetalAPIAccessNameTaken = "NameTaken"
	// ReasonMetalAPIAccessCreationRefused: the API server of the management cluster refused
	// to create, change or delete one of the objects; the message quotes it, unless the
	// object is a Secret.
	ReasonMetalAPIAccessCreationRefused = "CreationRefused"
	// ReasonMetalAPIAccessRequestFailed: a request for one of the objects failed otherwise,
	// such as by a timeout, and is repeated; the message has the error.
	ReasonMetalAPIAccessRequestFailed = "RequestFailed"
	// ReasonClusterMismatch: the Cluster whose label the MetalStackCluster has is another
	// one's, into whose workload cluster the access would be delivered.
	ReasonClusterMismatch = "ClusterMismatch"
	// ReasonAuthorityUnreadable: the controller manager cannot read the certificates by which
	// workload clusters verify the management cluster; the message says from where.
	ReasonAuthorityUnreadable = "AuthorityUnreadable"
)

// Reasons of FirewallControllerReady. NotAllocated is shared with Ready, WaitingForControlPlane
// with ControlPlaneEndpointSet, and the others with MetalAPIAccessReady: ManagementURLMissing,
// WaitingForToken, NameTaken, CreationRefused, RequestFailed, ClusterMismatch and
// AuthorityUnreadable.
const (
	// ReasonFirewallAccessProvided: everything is there in both clusters. The only one with
	// which it is True.
	ReasonFirewallAccessProvided = "Provided"
	// ReasonRevoking: the access was revoked in the management cluster, and the objects in
	// the workload cluster are being deleted.
	ReasonRevoking = "Revoking"
	// ReasonWorkloadClusterUnreachable: the API server of the workload cluster does not answer,
	// or refuses a request; the message says which. It has answered before.
	ReasonWorkloadClusterUnreachable = "WorkloadClusterUnreachable"
)

// Reasons of ControllerConnected and SeedConnected. WorkloadClusterUnreachable, with which
// they are Unknown, is shared with FirewallControllerReady.
const (
	// ReasonControllerConnected: the firewall-controller reports, and read its configuration.
	ReasonControllerConnected = "Connected"
	// ReasonControllerNeverReported: nothing has been reported yet.
	ReasonControllerNeverReported = "NeverReported"
	// ReasonControllerSilent: something was reported once, and nothing since.
	ReasonControllerSilent = "ControllerSilent"
	// ReasonNoKubeconfig: the firewall was allocated without a kubeconfig of this management
	// cluster, or with another URL of it, and its firewall-controller has not reported yet. In
	// SeedConnected it may report: what it read is another management cluster's.
	// ReplaceAnnotation replaces it.
	ReasonNoKubeconfig = "NoKubeconfig"
)

// Reasons of ControlPlaneEndpointSet.
const (
	// ReasonEndpointSet: spec.controlPlaneEndpoint has a host.
	ReasonEndpointSet = "EndpointSet"
	// ReasonWaitingForControlPlane: neither the Cluster nor its control plane has an
	// endpoint yet, or it cannot be read or taken over; the message says which.
	ReasonWaitingForControlPlane = "WaitingForControlPlane"
	// ReasonEndpointDiffers: spec.controlPlaneEndpoint is not the endpoint that the control
	// plane has, and the Cluster has none yet; the message has both.
	ReasonEndpointDiffers = "EndpointDiffers"
)

// Reasons of Paused.
const (
	ReasonPaused    = "Paused"
	ReasonNotPaused = "NotPaused"
)

// Reasons of PowerRequested.
const (
	// ReasonOperationSent: the metal-api sent the request to the machine's controller, and the
	// machine has sent no event since.
	ReasonOperationSent = "Sent"
	// ReasonOperationEventObserved: the machine has sent an event since; the message has it.
	ReasonOperationEventObserved = "EventObserved"
	// ReasonOperationRequested: the call is about to be made, or its outcome was not recorded.
	ReasonOperationRequested = "Requested"
	// ReasonOperationUncertain: the metal-api did not say whether it sent the request.
	ReasonOperationUncertain = "OutcomeUncertain"
	// ReasonOperationRefused: the metal-api refused the request; the message quotes it.
	ReasonOperationRefused = "Refused"
)

// Reasons of Reinstalling. CrashLoop is shared with Ready: the metal-api has the machine marked, and
// it crashed, or returned to an earlier step, since it phoned home last.
const (
	// ReasonReinstallMarked: the metal-api has the machine marked, and the installation has not
	// begun: its next boot from the network installs the image.
	ReasonReinstallMarked = "Marked"
	// ReasonReinstallInstalling: the machine has left its operating system, and has not phoned
	// home since.
	ReasonReinstallInstalling = "Installing"
)

// Reasons of MetalIssues. CrashLoop and FailedReclaim are shared with Ready.
const (
	// ReasonIssueDead: the machine was dead when it was allocated, and has sent no event since.
	ReasonIssueDead = "Dead"
	// ReasonIssueSilent: the machine has sent no event for minutes.
	ReasonIssueSilent = "Silent"
	// ReasonIssueLastEventError: an event of the machine did not fit the one before it, and the
	// machine has not phoned home since.
	ReasonIssueLastEventError = "LastEventError"
	// ReasonIssueDuplicateAddress: another machine has one of its addresses in the same network.
	ReasonIssueDuplicateAddress = "DuplicateAddress"
	// ReasonIssueDuplicateASN: another firewall has the firewall's autonomous system number.
	ReasonIssueDuplicateASN = "DuplicateASN"
	// ReasonSeveralIssues: there is more than one; the message has all.
	ReasonSeveralIssues = "SeveralIssues"
)

// Reasons of Remediated. MetalAPIUnavailable is shared with Allocated, Paused and Reinstalling
// with the conditions of those names, and WaitingForControlPlane with ControlPlaneEndpointSet:
// the control plane would not bear that the machine is switched off, or would not have for so long
// that the Machine was handed back.
const (
	// ReasonRemediated: the Node is ready again. The only one with which it is True.
	ReasonRemediated = "Remediated"

	// ReasonWaitingForMachine: no Machine of Cluster API owns the remediation, the Machine has
	// not failed a health check, or its MetalStackMachine cannot be found.
	ReasonWaitingForMachine = "WaitingForMachine"
	// ReasonMachineDeleting: the Machine is being deleted, and nothing is done for it.
	ReasonMachineDeleting = "MachineDeleting"
	// ReasonPoweringOff, ReasonFencing, ReasonPoweringOn and ReasonWaitingForNode: an attempt is
	// under way; the message says what is waited for.
	ReasonPoweringOff    = "PoweringOff"
	ReasonFencing        = "Fencing"
	ReasonPoweringOn     = "PoweringOn"
	ReasonWaitingForNode = "WaitingForNode"
	// ReasonWorkloadClusterUnavailable: the workload cluster cannot be read, or its Node not be
	// changed; the message says why. It is tried again.
	ReasonWorkloadClusterUnavailable = "WorkloadClusterUnavailable"
	// ReasonPowerRefused: the API server or the metal-api refused a power request; the message
	// quotes it.
	ReasonPowerRefused = "PowerRefused"

	// ReasonRetriesExhausted: the Node was not ready after the last attempt. The Machine was
	// handed back to its owner, as with all that follow.
	ReasonRetriesExhausted = "RetriesExhausted"
	// ReasonHandedBack: the Machine had been handed back before, and was not replaced yet.
	ReasonHandedBack = "HandedBack"
	// ReasonMachineGone: the machine of the MetalStackMachine is gone, or another one than when
	// the remediation began.
	ReasonMachineGone = "MachineGone"
	// ReasonMachineCrashLoop: the machine is in a crash loop, which a reboot does not end.
	ReasonMachineCrashLoop = "MachineCrashLoop"
	// ReasonNodeNeverJoined: the Machine never had a Node, and would not get one by a reboot:
	// its user data do not run again.
	ReasonNodeNeverJoined = "NodeNeverJoined"
	// ReasonNodeGone: the Node was deleted.
	ReasonNodeGone = "NodeGone"
)
