// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import "testing"

func TestKubectl(t *testing.T) {
	t.Parallel()
	env := start(t)
	for name, test := range map[string]func(*space){
		"Explain_DocumentsEveryField":                 explainDocumentsEveryField,
		"Explain_NamesValuesAndExamples":              explainNamesValuesAndExamples,
		"Diff_ShowsChangesOfApply":                    diffShowsChangesOfApply,
		"ServerSideApply_TracksOwners":                serverSideApplyTracksOwners,
		"ClientSideApply_ChangesFieldsOfManifest":     clientSideApplyChangesFieldsOfManifest,
		"ServerSideApply_TakesOverClientSideManifest": serverSideApplyTakesOverClientSideManifest,
		"Wait_ForConditionFieldAndDeletion":           waitForConditionFieldAndDeletion,
		"Describe_ShowsObjectAndEvents":               describeShowsObjectAndEvents,
		"Get_PrintsEveryFormat":                       getPrintsEveryFormat,
		"Get_SelectsSortsAndPages":                    getSelectsSortsAndPages,
		"Catalogue_ShowsWhatToWrite":                  newcomerFindsWhatToWrite,
		"Claim_AddressOutlivesCluster":                addressOutlivesCluster,
		"Get_Watches":                                 getWatches,
		"Versions_ShowSameObject":                     versionsShowSameObject,
		"Create_InvalidIsRefused":                     createInvalidIsRefused,
		"UnknownFields_AreRefused":                    unknownFieldsAreRefused,
		"Edit_ChangesObject":                          editChangesObject,
		"Label_AndAnnotate":                           labelAndAnnotate,
		"Patch_EveryType":                             patchEveryType,
		"Patch_StatusIsSeparate":                      patchStatusIsSeparate,
		"Replace_NeedsCurrentResourceVersion":         replaceNeedsCurrentResourceVersion,
		"UnsupportedCommands_AreRefused":              unsupportedCommandsAreRefused,
		"Delete_WaitsForRelease":                      deleteWaitsForRelease,
		"DeleteAll_DeletesManaged":                    deleteAllDeletesManaged,
		"APIResources_ShortNamesAndCategory":          apiResourcesShortNamesAndCategory,
		"Completion_OfNamesAndShortNames":             completionOfNamesAndShortNames,
		"Plugin_OperatesMachines":                     pluginOperatesMachines,
		"Plugin_AdoptsAndCompletes":                   pluginAdoptsAndCompletes,
	} {
		t.Run(name, func(t *testing.T) { test(env.space(t)) })
	}
}
