// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"sort"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const (
	// maxChanged is how many records are read one by one; if more have changed, all
	// are listed.
	maxChanged = 200
	// changedReaders is how many are read at a time.
	changedReaders = 10
)

// ListChanged implements ledger.ChangeLister. It lists metadata, which is a third of
// most ConfigMaps.
func (l *Ledger) ListChanged(ctx context.Context, known map[string]string) ([]ledger.Record, error) {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var records []ledger.Record
	var changed []string
	var err error
	for range listAttempts {
		if records, changed, err = l.compare(limited, known); !apierrors.IsResourceExpired(err) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to list metadata of records in namespace %s: %w", l.namespace, err)
	}
	if len(changed) > maxChanged {
		return l.List(ctx)
	}
	configMaps := make([]*corev1.ConfigMap, len(changed))
	group, limited := errgroup.WithContext(limited)
	group.SetLimit(changedReaders)
	for i, name := range changed {
		group.Go(func() (err error) {
			configMaps[i], err = l.get(limited, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("failed to get changed records in namespace %s: %w", l.namespace, err)
	}
	var found []damage
	for _, cm := range configMaps {
		if cm == nil {
			continue // deleted meanwhile
		}
		if _, labelled := cm.Labels[RecordLabel]; !labelled {
			continue
		}
		record, d := read(cm)
		if d != nil {
			found = append(found, *d)
		}
		if d == nil || d.kind == damagedValue {
			records = append(records, record)
		}
	}
	if err := l.report(ctx, found); err != nil {
		return nil, err
	}
	sort.Slice(records, func(i, j int) bool { return records[i].Key < records[j].Key })
	return records, nil
}

// compare returns the records that are at the version that is known, without their
// values, and the names of all other ConfigMaps that carry the label.
func (l *Ledger) compare(ctx context.Context, known map[string]string) (records []ledger.Record, changed []string, err error) {
	opts := metav1.ListOptions{LabelSelector: RecordLabel, Limit: pageSize}
	for {
		page, err := l.metadataPage(ctx, opts)
		if err != nil {
			return nil, nil, err
		}
		for i := range page.Items {
			cm := &corev1.ConfigMap{ObjectMeta: page.Items[i].ObjectMeta}
			key, version := keyOf(cm), versionOf(cm)
			if key != "" && known[key] == version {
				records = append(records, ledger.Record{Key: key, Version: version})
			} else {
				changed = append(changed, cm.Name)
			}
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			return records, changed, nil
		}
	}
}

func (l *Ledger) metadataPage(ctx context.Context, opts metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return l.metadata.List(ctx, opts)
}
