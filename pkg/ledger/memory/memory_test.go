// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"testing"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/ledgertest"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

func TestLedger_Contract(t *testing.T) {
	ledgertest.Run(t, ledgertest.Harness{
		New: func(*testing.T) ledger.Ledger { return memory.New() },
	})
}
