// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDeliveries_CountFirstEventOfEachWrite(t *testing.T) {
	t.Parallel()
	d := &deliveries{after: make([]time.Duration, 3), marker: []byte(`"compare/sent":"2-`)}
	err := d.follow(bufio.NewReader(strings.NewReader(`{"type":"MODIFIED","object":{"metadata":{"annotations":{"compare/sent":"2-0"}}}}
{"type":"MODIFIED","object":{"metadata":{"annotations":{"compare/sent":"1-1"}}}}
{"type":"MODIFIED","object":{"metadata":{"annotations":{"compare/sent":"2-2"},"resourceVersion":"17"}}}
{"type":"MODIFIED","object":{"metadata":{"annotations":{"compare/sent":"2-2"}}}}
{"type":"BOOKMARK","object":{}}
`)), time.Now())
	require.ErrorIs(t, err, io.EOF)
	assert.EqualValues(t, 2, d.seen.Load())
	assert.Zero(t, d.after[1])
	assert.Equal(t, "17", d.last)
}

func TestDeliveries_ErrorEventEndsWatch(t *testing.T) {
	t.Parallel()
	d := &deliveries{marker: []byte(`"compare/sent":"2-`)}
	err := d.follow(bufio.NewReader(strings.NewReader(`{"type":"ERROR","object":{"kind":"Status","code":410}}`+"\n")), time.Now())
	require.ErrorIs(t, err, errEvent)
	require.ErrorContains(t, err, `"code":410`)
}

func TestAwait_FailsWithWatchThatEnded(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	failed <- errors.New("a watch ended")
	require.EqualError(t, await([]*deliveries{{after: make([]time.Duration, 1)}}, 1, failed), "a watch ended")
}
