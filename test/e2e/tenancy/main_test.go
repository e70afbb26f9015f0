// SPDX-License-Identifier: Apache-2.0

// Package tenancy tests in a management cluster that tenants do not reach each
// other's metal, what they see across namespaces, what their roles let them do,
// and that namespaces are bound, changed and deleted as docs say.
package tenancy

import (
	"os"
	"testing"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func TestMain(m *testing.M) {
	framework.SetParallel(4)
	os.Exit(cluster.Main(m))
}

// One installation is enough for all: they keep apart by namespaces and
// projects, and what stops the server comes last.
func TestTenancy(t *testing.T) {
	t.Parallel()
	env := start(t)
	t.Run("parallel", func(t *testing.T) {
		t.Run("Tenant_ReachesNoForeignMetal", func(t *testing.T) { t.Parallel(); tenantReachesNoForeignMetal(t, env) })
		t.Run("Catalogue_IsTheSameForAll", func(t *testing.T) { t.Parallel(); catalogueIsTheSameForAll(t, env) })
		t.Run("Label_BindsNamespace", func(t *testing.T) { t.Parallel(); labelBindsNamespace(t, env) })
		t.Run("Label_ThatCannotBindIsRefused", func(t *testing.T) { t.Parallel(); labelThatCannotBindIsRefused(t, env) })
		t.Run("ServiceAccounts_Rights", func(t *testing.T) { t.Parallel(); serviceAccountsRights(t, env) })
		t.Run("Roles_AreWhatTheTableSays", func(t *testing.T) { t.Parallel(); rolesAreWhatTheTableSays(t, env) })
		t.Run("Operations_ThroughKubeAPIServer", func(t *testing.T) { t.Parallel(); operationsThroughKubeAPIServer(t, env) })
		t.Run("MetalAPIAccess_LastsAsLongAsItsCluster", func(t *testing.T) { t.Parallel(); metalAPIAccessLastsAsLongAsItsCluster(t, env) })
		t.Run("DeletedNamespace_ReleasesItsMetal", func(t *testing.T) { t.Parallel(); deletedNamespaceReleasesItsMetal(t, env) })
		t.Run("Finalizer_StaysWhileMetalIsHeld", func(t *testing.T) { t.Parallel(); finalizerStaysWhileMetalIsHeld(t, env) })
		t.Run("RecreatedNamespace_HidesOldRecords", func(t *testing.T) { t.Parallel(); recreatedNamespaceHidesOldRecords(t, env) })
	})
	t.Run("LostBindings_RecordsStayHidden", func(t *testing.T) { lostBindingsRecordsStayHidden(t, env) })
	t.Run("AbandonedRecords_SetAside", func(t *testing.T) { abandonedRecordsSetAside(t, env) })
	t.Run("Binding_StaysWhileObjectsExist", func(t *testing.T) { bindingStaysWhileObjectsExist(t, env) })
}
