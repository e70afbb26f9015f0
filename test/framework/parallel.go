// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"flag"
	"strconv"
)

// SetParallel lets n tests of the process run in parallel, unless the command line
// says how many. By default as many run as there are processors, which are too few
// where tests wait longer than they compute. TestMain calls it.
func SetParallel(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(n))
	}
}
