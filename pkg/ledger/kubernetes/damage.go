// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

// damage is something wrong with a ConfigMap that carries the label.
type damage struct {
	kind damageKind
	name string // of the ConfigMap
	text string
}

// damageKind decides what becomes of a List.
//
// A record must not be dropped because it was damaged: its object would
// vanish as if it had been deleted, and its metal would be shown as discovered
// while a record of it exists. So List leaves out only what certainly is no
// record. A record whose value is damaged is listed with what is left of it:
// the storage, which can decode records, fails for that key alone. If
// it is not even known whose record it is, List fails, because then a complete
// answer cannot be given; people decide, by repairing the ConfigMap or by
// taking the label off it.
type damageKind string

const (
	// noRecord: no ledger gave a ConfigMap this name. It is left out.
	noRecord damageKind = "no-record"
	// damagedValue: the key is known, the value is not what was written.
	damagedValue damageKind = "value"
	// unknownKey: it is a record, and does not say which. List fails.
	unknownKey damageKind = "key"
)

var damageKinds = []damageKind{noRecord, damagedValue, unknownKey}

// read returns the record that cm is, and what is wrong with it.
func read(cm *corev1.ConfigMap) (ledger.Record, *damage) {
	key := keyOf(cm)
	switch {
	case key == "" && !nameForm.MatchString(cm.Name):
		return ledger.Record{}, &damage{noRecord, cm.Name, fmt.Sprintf(
			"not a record although it has the label %s: names of records end in a hash of their key; ignored", RecordLabel)}
	case key == "":
		return ledger.Record{}, &damage{unknownKey, cm.Name, fmt.Sprintf(
			"record without its key: the annotation %s is missing, or does not match the hash at the end of the name; "+
				"restore it, or remove the ConfigMap from the ledger: kubectl label configmap -n %s %s %s- (then the object is gone, and its metal is kept and shown as discovered)",
			KeyAnnotation, cm.Namespace, cm.Name, RecordLabel)}
	}
	value, err := valueOf(cm)
	record := ledger.Record{Key: key, Value: value, Version: versionOf(cm)}
	if _, malformed := recordformat.Read(value); err == nil && errors.Is(malformed, recordformat.ErrMalformed) {
		err = malformed
	}
	if err != nil {
		return record, &damage{damagedValue, cm.Name, fmt.Sprintf("damaged value of record %s: %v", key, err)}
	}
	return record, nil
}

// report reports damage: in metrics, in the log when it is new, and as an
// error if the list would not be complete.
func (l *Ledger) report(ctx context.Context, found []damage) error {
	count := map[damageKind]int{}
	var errs []error
	now := map[string]string{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range found {
		count[d.kind]++
		now[d.name] = d.text
		if l.reported[d.name] != d.text {
			klog.FromContext(ctx).Error(errors.New(d.text), "Damaged ConfigMap in the ledger", "configMap", klog.KRef(l.namespace, d.name), "damage", d.kind)
		}
		if d.kind == unknownKey {
			errs = append(errs, fmt.Errorf("ConfigMap %s/%s: %s", l.namespace, d.name, d.text))
		}
	}
	l.reported = now
	for _, kind := range damageKinds {
		damaged.WithLabelValues(string(kind)).Set(float64(count[kind]))
	}
	return errors.Join(errs...)
}
