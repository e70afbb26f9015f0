// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"
)

// ready polls a URL until it answers 200, one of the programs ends, or the
// time is up.
func (d *demo) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, fmt.Errorf("%s is not ready after %s", url, d.timeout))
	defer cancel()
	client := &http.Client{
		Timeout: 2 * time.Second,
		// The answer is a yes or no about our own child; nothing is sent.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	defer client.CloseIdleConnections()
	ended := d.firstEnd()
	for {
		if answer, err := client.Get(url); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case p := <-ended:
			return p.exitReport()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
