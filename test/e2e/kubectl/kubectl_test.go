// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import "testing"

func TestKubectl(t *testing.T) {
	t.Parallel()
	env := start(t)
	for name, test := range map[string]func(*space){
		"explain tells of every field":                             explainTells,
		"explain reads as a teacher":                               explainTeaches,
		"diff shows what apply would change":                       diffShows,
		"server-side apply knows who owns what":                    serverSideApply,
		"client-side apply changes what the manifest says":         clientSideApply,
		"a client-side manifest can be taken over by the server":   takeOver,
		"wait waits for conditions, fields and the end":            waits,
		"describe shows the object and its events":                 describes,
		"get prints in every format":                               prints,
		"get selects, sorts and pages":                             selects,
		"get watches":                                              watches,
		"every version shows the same object":                      versions,
		"create refuses what is wrong, and a dry run creates none": creates,
		"unknown fields are refused":                               unknownFields,
		"edit changes an object":                                   edits,
		"label and annotate":                                       labels,
		"patch changes an object in every way":                     patches,
		"status is patched apart from the object":                  patchesStatus,
		"replace needs what was read":                              replaces,
		"what makes no sense is refused":                           senseless,
		"delete waits until the metal was given back":              deletes,
		"delete --all takes what is managed":                       deletesAll,
		"resources are listed with short names and category":       listsResources,
		"names and short names are completed":                      completes,
	} {
		t.Run(name, func(t *testing.T) { test(env.space(t)) })
	}
}
