// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"time"

	"k8s.io/klog/v2"
)

// timeToLive is what is left until expires, in seconds.
func (s *Store) timeToLive(expires time.Time) int64 {
	if expires.IsZero() {
		return 0
	}
	return max(1, int64(expires.Sub(s.backend.clock.Now()).Seconds()))
}

func (s *Store) expiryTime(ttl uint64) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return s.backend.clock.Now().Add(time.Duration(ttl) * time.Second)
}

// scheduleExpiry removes the record when its time has come, if it is the same one
// then. No kind of this server has a time to live; the interface does.
func (s *Store) scheduleExpiry(key string, rec *record) {
	if rec.expires.IsZero() {
		return
	}
	timer := s.backend.clock.NewTimer(rec.expires.Sub(s.backend.clock.Now()))
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-s.backend.ctx.Done():
			return
		}
		if e := s.view.get(key); e != nil && e.rec == rec {
			if _, err := s.swap(s.backend.ctx, key, e, nil); err != nil && !errors.Is(err, errRecordChanged) {
				klog.FromContext(s.backend.ctx).Error(err, "Failed to delete expired object", "key", key)
			}
		}
	}()
}
