// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"sync"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// ledgerLists reads the ledger for those who must know what became of a write. A
// thousand of them cost it two lists: at most one runs and one waits.
type ledgerLists struct {
	ledger ledger.Ledger

	mu      sync.Mutex
	running *ledgerList
	waiting *ledgerList
}

type ledgerList struct {
	done    chan struct{}
	records map[string]ledger.Record
	err     error
}

// listFresh returns the records by a list that began after the call.
func (l *ledgerLists) listFresh(ctx context.Context) (map[string]ledger.Record, error) {
	l.mu.Lock()
	mine := l.waiting
	if mine == nil {
		mine = &ledgerList{done: make(chan struct{})}
		if l.running == nil {
			l.running = mine
			go l.run(context.WithoutCancel(ctx), mine)
		} else {
			l.waiting = mine
		}
	}
	l.mu.Unlock()
	select {
	case <-mine.done:
		return mine.records, mine.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *ledgerLists) run(ctx context.Context, k *ledgerList) {
	for k != nil {
		k.records, k.err = l.list(ctx)
		close(k.done)
		l.mu.Lock()
		k = l.waiting
		l.running, l.waiting = k, nil
		l.mu.Unlock()
	}
}

func (l *ledgerLists) list(ctx context.Context) (map[string]ledger.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	list, err := l.ledger.List(ctx)
	if err != nil {
		return nil, err
	}
	return byKey(list), nil
}
