// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
)

const (
	// floorGets is how many discovery documents are read, one at a time.
	floorGets = 200
	// ledgerNamespace is where the floor of writes is measured. Our server has its
	// records in another one.
	ledgerNamespace = "default"
)

// floor measures what our answers cost at least: a request passes the kube-apiserver
// and our server, and a write is, behind that, another request to the kube-apiserver,
// which writes a ConfigMap. What passes both and does nothing is a discovery document,
// for which no object is read.
func floor() measure {
	document, record := "discovery document, which needs no storage", "write of a record by the ledger's client"
	hop := "the document and the write of the record, without any work of ours"
	return measure{
		name: "floor",
		rows: []*row{
			{subject: document, part: "p50", why: "the difference is the hop"},
			{subject: document, part: "CPU"},
			{subject: document, part: fmt.Sprintf("%d at a time, p50", getters)},
			{subject: record, part: "update, p50", why: "beside it a label patch of a custom resource"},
			{subject: record, part: "create, p50", why: "beside it a create of a custom resource"},
			{subject: "least ratio of a get, rv=0", part: "p50", why: "beside the discovery document a get of a custom resource"},
			{subject: "least ratio of a get, rv=0", part: fmt.Sprintf("%d at a time, p50", getters)},
			{subject: "least ratio of a label patch or an apply", why: hop},
			{subject: "least ratio of a create", why: hop},
			{subject: "least ratio of a delete, which marks the record", why: hop},
		},
		run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
			path, document := "/apis/"+s.version.String(), []float64{}
			cpu := s.cpuSince()
			for range floorGets {
				a, err := s.client.get(ctx, path, nil)
				if err != nil {
					return nil, err
				}
				document = append(document, a.took.Seconds())
			}
			used, err := cpu()
			if err != nil {
				return nil, err
			}
			parallel, err := documentsAtOnce(ctx, s, path)
			if err != nil {
				return nil, err
			}
			values := []float64{quantile(document, 0.5), used.Seconds() / floorGets, quantile(parallel, 0.5)}
			if s == e.theirs {
				w, err := writes(ctx, e, s)
				if err != nil {
					return nil, err
				}
				l, err := gets(ctx, e, s, "0")
				if err != nil {
					return nil, err
				}
				patch, create, remove := w[0], w[4], w[6]
				return append(values, patch, create, quantile(l.single, 0.5), quantile(l.parallel, 0.5), patch, create, remove), nil
			}
			create, update, err := e.recordWrites(ctx)
			if err != nil {
				return nil, err
			}
			// To write the record, our server is a client of the kube-apiserver as the
			// user is: each of the two requests to it takes its whole time.
			hop := values[0]
			return append(values, update, create, hop, values[2], hop+update, hop+create, hop+update), nil
		},
	}
}

func documentsAtOnce(ctx context.Context, s *side, path string) ([]float64, error) {
	took := make([][]float64, getters)
	var group errgroup.Group
	for i := range took {
		group.Go(func() error {
			for range parallelGets {
				a, err := s.client.get(ctx, path, nil)
				if err != nil {
					return err
				}
				took[i] = append(took[i], a.took.Seconds())
			}
			return nil
		})
	}
	err := group.Wait()
	var all []float64
	for _, part := range took {
		all = append(all, part...)
	}
	return all, err
}

// recordWrites creates, updates and deletes records as our server does, from here: the
// medians of a create and an update.
func (e *environment) recordWrites(ctx context.Context) (create, update float64, err error) {
	ledger, err := kubernetes.New(e.plane.Admin(), ledgerNamespace)
	if err != nil {
		return 0, 0, err
	}
	var creates, updates []float64
	for i := range writeCount {
		key := fmt.Sprintf("metalstackmachines/floor/%s", createdName(i))
		value, err := e.fleet.value(i, e.uids)
		if err != nil {
			return 0, 0, err
		}
		other, err := e.fleet.value(i+1, e.uids)
		if err != nil {
			return 0, 0, err
		}
		began := time.Now()
		version, err := ledger.Create(ctx, key, value)
		if err != nil {
			return 0, 0, err
		}
		creates, began = append(creates, time.Since(began).Seconds()), time.Now()
		if version, err = ledger.Update(ctx, key, version, other); err != nil {
			return 0, 0, err
		}
		updates = append(updates, time.Since(began).Seconds())
		if err := ledger.Delete(ctx, key, version); err != nil {
			return 0, 0, err
		}
	}
	return quantile(creates, 0.5), quantile(updates, 0.5), nil
}
