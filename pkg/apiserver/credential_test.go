// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestReloadCredential_KeepsPreviousOneIfUnreadable(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	answers := []struct {
		key string
		err error
	}{{"a", nil}, {"", errors.New("gone")}, {"b", nil}, {"b", nil}, {"c", nil}}
	var handed []string
	read := func() (string, error) {
		next := answers[0]
		if answers = answers[1:]; len(answers) == 0 {
			cancel()
		}
		return next.key, next.err
	}
	reloadCredential(ctx, time.Millisecond, "a", read, func(key string) { handed = append(handed, key) })
	assert.Equal(t, []string{"b", "c"}, handed)
}
