// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// area is a row of the table: what may work with one version of Kubernetes, and not with
// another.
type area struct {
	name string
	// tests are the names of tests and subtests, by the directory of their package.
	tests map[string][]string
}

const (
	admission         = "test/e2e/admission"
	api               = "test/e2e/compat"
	capi              = "test/e2e/capi"
	deploy            = "test/e2e/deploy"
	garbageCollection = "test/e2e/garbagecollection"
	kubectl           = "test/e2e/kubectl"
	ledger            = "test/e2e/ledger"
	replicas          = "test/e2e/replicas"
	tenancy           = "test/e2e/tenancy"
)

var areas = []area{
	{"Installation", map[string][]string{
		"test/framework/cluster": {"TestInstallation_Serves"},
		deploy:                   {"TestVariants_PassStrictValidation", "TestAdmissionPolicies_KnowNoNamespace", "TestWorkload_ObjectsAreServed"},
		"test/e2e/contract":      {"TestDefinitions_OfAnotherProviderAreLeftAlone"},
	}},
	{"Discovery", map[string][]string{
		api:     subtests("TestClients", "Discovery_Aggregated", "Discovery_Legacy"),
		kubectl: subtests("TestKubectl", "APIResources_ShortNamesAndCategory", "Completion_OfNamesAndShortNames", "Versions_ShowSameObject"),
	}},
	{"OpenAPI", map[string][]string{
		api:     subtests("TestClients", "OpenAPI_V2", "OpenAPI_V3"),
		kubectl: subtests("TestKubectl", "Explain_DocumentsEveryField", "Explain_NamesValuesAndExamples", "UnknownFields_AreRefused"),
	}},
	{"kubectl", map[string][]string{
		kubectl: subtests("TestKubectl", "Get_PrintsEveryFormat", "Get_SelectsSortsAndPages", "Describe_ShowsObjectAndEvents", "Edit_ChangesObject",
			"Label_AndAnnotate", "Patch_EveryType", "Patch_StatusIsSeparate", "Replace_NeedsCurrentResourceVersion", "Create_InvalidIsRefused",
			"Delete_WaitsForRelease", "DeleteAll_DeletesManaged", "UnsupportedCommands_AreRefused", "Catalogue_ShowsWhatToWrite",
			"Plugin_OperatesMachines", "Plugin_AdoptsAndCompletes"),
	}},
	{"Watches", map[string][]string{
		api:     subtests("TestClients", "WatchList_BeginsWithEverythingAndBookmark", "Informers_WithAndWithoutWatchList"),
		kubectl: subtests("TestKubectl", "Get_Watches", "Wait_ForConditionFieldAndDeletion"),
	}},
	{"Apply", map[string][]string{
		kubectl: subtests("TestKubectl", "ServerSideApply_TracksOwners", "ServerSideApply_TakesOverClientSideManifest",
			"ClientSideApply_ChangesFieldsOfManifest", "Diff_ShowsChangesOfApply"),
	}},
	{"Garbage collection", map[string][]string{
		garbageCollection: subtests("TestKubernetesControllers", "GarbageCollector_DeletesDependents", "GarbageCollector_DeletesObjectOfMissingOwner",
			"GarbageCollector_KeepsObjectOfUnreadableOwner", "ForegroundDeletion_WaitsForDependents", "OrphanDeletion_KeepsDependents",
			"Finalizers_KeepObjectAndCannotBeAddedLater"),
	}},
	{"Quotas", map[string][]string{
		garbageCollection: subtests("TestKubernetesControllers", "Quota_IsKept", "Quota_IsNotExceededByConcurrentCreates", "Quota_CountsDiscovered", "Quota_DoesNotBlockAllocation"),
		admission:         subtests("TestAdmission", "Quota_IsNotUsedByWhatPoliciesDeny"),
	}},
	{"Policies and webhooks", map[string][]string{
		admission: subtests("TestAdmission", "Documentation_HasValidExamples", "Policy_DeniesEveryKindAndVerb", "Policy_WarnsAndIsAudited",
			"Policy_ReadsParametersThatAreGranted", "Webhooks_SeeObjectsAndNoSecret", "Webhook_ThatIsAwayIsBounded", "Release_IsNotHeldUpByPolicyOfFinalizers"),
	}},
	{"Mutating policies", map[string][]string{
		admission: subtests("TestAdmission", "MutatingPolicy_ChangesObjects"),
	}},
	{"RBAC", map[string][]string{
		api:     subtests("TestClients", "CanI_AnswersAsRolesSay"),
		tenancy: subtests("TestTenancy/parallel", "Tenant_ReachesNoForeignMetal", "ServiceAccounts_Rights", "Roles_AreWhatTheTableSays", "Operations_ThroughKubeAPIServer"),
	}},
	{"Namespaces", map[string][]string{
		tenancy: subtests("TestTenancy/parallel", "Label_BindsNamespace", "Label_ThatCannotBindIsRefused", "DeletedNamespace_ReleasesItsMetal", "RecreatedNamespace_HidesOldRecords"),
	}},
	{"Records and failover", map[string][]string{
		ledger:   {"TestLedger_Contract", "TestWrite_ConcurrentWritersOverwriteNothing"},
		replicas: subtests("TestReplicas", "Stop_UnderLoadFailsOnlyRetriedRequests", "Kill_StandbyFinishesAllocation"),
	}},
	{"Cluster API", map[string][]string{
		capi: {"TestClusterAPI/Clusterctl_InstallsEverything", "TestClusterAPI/parallel/ClusterClass_CreatesAndChangesClusters", "TestClusterAPI/Clusterctl_UpgradesAndDeletesTheProvider"},
	}},
}

// subtests are the full names of subtests.
func subtests(test string, names ...string) []string {
	var full []string
	for _, name := range names {
		full = append(full, test+"/"+name)
	}
	return full
}

// selectAreas returns the areas of some names, in order, or all.
func selectAreas(names []string) ([]area, error) {
	if len(names) == 0 {
		return areas, nil
	}
	var all []string
	for _, a := range areas {
		all = append(all, a.name)
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("areas: %q: want some of %s", name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(areas), func(a area) bool { return !slices.Contains(names, a.name) }), nil
}

// packages are the directories of an area's packages, in order.
func (a area) packages() []string { return slices.Sorted(maps.Keys(a.tests)) }

// packages are the directories of all packages, in the order in which areas need them.
func packages(areas []area) []string {
	var all []string
	for _, a := range areas {
		for _, p := range a.packages() {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// pattern selects for go test -run what areas want of a package.
func pattern(areas []area, p string) string {
	var names []string
	for _, a := range areas {
		for _, name := range a.tests[p] {
			names = append(names, "^"+strings.ReplaceAll(name, "/", "$/^")+"$")
		}
	}
	return strings.Join(names, "|")
}
