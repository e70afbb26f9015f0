// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	infrastructurescheme "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// A record is what a user, or an older version, put into the ledger.
func FuzzRecord_RoundTrips(f *testing.F) {
	for _, seed := range []string{
		`{"object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","metadata":{"name":"node-1","namespace":"team-a","uid":"u"},"spec":{"image":"ubuntu-24.04"},"status":{"allocation":{"phase":"Allocated","attempt":1,"startTime":"2026-11-22T12:00:00Z"}}}}`,
		`{"object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha3","kind":"MetalStackCluster","metadata":{"name":"c"},"spec":{}}}`,
		`{"expires":"2026-11-22T12:00:00.000000001+01:00","object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackFirewall"}}`,
		`{"namespace":{"uid":"5d0f","project":"10000000-0000-4000-8000-00000000000a"},"object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","metadata":{"name":"node-1","namespace":"team-a"}}}`,
		`{"namespace":{"uid":"<&>"},"object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackFirewall"}}`,
		`{"format":1,"namespace":{"uid":"5d0f","project":"10000000-0000-4000-8000-00000000000a"},"object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","metadata":{"name":"node-1","namespace":"team-a"}}}`,
		`{"format":1,"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","metadata":{"name":"\"object\":{"},"spec":{}}}`,
		`{"format":1,"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"},"later":{}}`,
		`{"format":1,"namespace":{"project":"p","uid":"u"},"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"}}`,
		`{"format":1,"earlier":1,"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"}}`,
		`{"format":1,"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"},"object":{"kind":"MetalStackFirewall","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"}}`,
		`{"format":1,"namespace":{"object":{}},"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"}}`,
		`{"format":1,"expires":"2026-11-22T12:00:00Z","namespace":{"uid":"u","project":"p"},"object":{"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"}}`,
		`{"format":1,"object": {"kind":"MetalStackMachine","apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"}}`,
		`{"format":2,"object":{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackFirewall"}}`, `{"format":"1","object":{}}`, `{"object":{},"format":-1}`,
		`{"object":null}`, `{}`, `null`, ``, `{"object":{"kind":"List","apiVersion":"v1","items":[]}}`,
	} {
		f.Add([]byte(seed))
	}
	s := &Store{codec: infrastructurescheme.StorageCodec, versioner: apistorage.APIObjectVersioner{}}
	f.Fuzz(func(t *testing.T, value []byte) {
		stored := ledger.Record{Key: "k", Value: value, Version: "1"}
		read, err := s.decodeAny(stored)
		if canonical := s.decodeCanonical(stored); canonical != nil && !reflect.DeepEqual(canonical, read) {
			t.Fatalf("%s is read as %+v, and as %+v, %v", value, canonical, read, err)
		}
		if err != nil {
			return
		}
		written, err := s.encode(read.obj.DeepCopyObject(), read.expires, read.origin)
		if err != nil {
			t.Fatalf("can be read, but not written: %v", err)
		}
		again, err := s.decode(ledger.Record{Key: "k", Value: written.value, Version: "2"})
		if err != nil {
			t.Fatalf("%s is written as %s, which cannot be read: %v", value, written.value, err)
		}
		if s.decodeCanonical(ledger.Record{Key: "k", Value: written.value, Version: "2"}) == nil {
			t.Errorf("%s is not read as what is written today", written.value)
		}
		if again.needsRewrite {
			t.Errorf("%s is not what would be written today", written.value)
		}
		if again.sum != written.sum || !again.expires.Equal(read.expires) || again.origin != read.origin {
			t.Errorf("%s is written as %s, and read as something else", value, written.value)
		}
		twice, err := s.encode(again.obj.DeepCopyObject(), again.expires, again.origin)
		if err != nil || string(twice.value) != string(written.value) {
			t.Errorf("written %s, and then %s, %v", written.value, twice.value, err)
		}
	})
}

func FuzzMark_IsARevision(f *testing.F) {
	for _, seed := range []string{`{"reserved":1764000000000000}`, `{"format":1,"writtenBy":"v0.1.0","reserved":1764000000000000}`, `{"format":2,"reserved":1}`, `{}`, `{"reserved":-1}`, `{"reserved":1e3}`, `{"reserved":18446744073709551615}`, `[]`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		m, version, err := readMark(map[string]ledger.Record{markKey: {Key: markKey, Value: value, Version: "7"}})
		if err != nil {
			if !strings.Contains(err.Error(), markKey) {
				t.Errorf("%v does not name the record", err)
			}
			return
		}
		if version != "7" {
			t.Errorf("version %q", version)
		}
		if m.Reserved >= maxRevision {
			t.Errorf("%d leaves no revision that every reader keeps", m.Reserved)
		}
	})
}

// A client sends back a token that it was given, or made up.
func FuzzContinueToken_ShowsNothingInvisible(f *testing.F) {
	f.Add("not base64", "0", int64(1))
	f.Add("", "", int64(0))
	for _, seed := range []string{
		`{"v":"meta.k8s.io/v1","rv":1,"start":"node-1\u0000"}`,
		`{"v":"meta.k8s.io/v1","rv":-1,"start":"../team-b/"}`,
		`{"v":"meta.k8s.io/v1","rv":-1,"start":"node-0"}`,
		`{"v":"meta.k8s.io/v1","rv":9223372036854775807,"start":"node-0"}`,
		`{"v":"meta.k8s.io/v2","rv":-1,"start":"a"}`,
	} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(seed)), "", int64(2))
	}
	s := startPods(f, Options{})
	for _, at := range [][2]string{{"team-a", "node-0"}, {"team-a", "node-1"}, {"team-a", "node-2"}, {"team-aa", "x"}, {"team-b", "secret"}} {
		if err := s.Create(f.Context(), "/pods/"+at[0]+"/"+at[1], pod(at[0], at[1]), nil, 0); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, token, resourceVersion string, limit int64) {
		// The second is what a token holds, for whoever cannot guess base64.
		for _, token := range []string{token, base64.RawURLEncoding.EncodeToString([]byte(token))} {
			opts := everything()
			opts.ResourceVersion = resourceVersion
			opts.Predicate.Limit, opts.Predicate.Continue = limit, token
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			list := &example.PodList{}
			err := s.GetList(ctx, "/pods/team-a/", opts, list)
			cancel()
			if err != nil {
				var status apierrors.APIStatus
				var storageErr *apistorage.StorageError
				if !errors.As(err, &status) && !errors.As(err, &storageErr) && ctx.Err() == nil {
					t.Errorf("answered with no status: %v", err)
				}
				continue
			}
			last := ""
			for _, p := range list.Items {
				if p.Namespace != "team-a" || p.Name <= last {
					t.Errorf("%q at %q shows %s/%s after %q", token, resourceVersion, p.Namespace, p.Name, last)
				}
				last = p.Name
			}
			if limit > 0 && int64(len(list.Items)) > limit {
				t.Errorf("%d items of at most %d", len(list.Items), limit)
			}
		}
	})
}
