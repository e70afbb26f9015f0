// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// etcd plays the members of a stacked etcd cluster, as far as the kubeadm
// control-plane manager asks them: who are you, who leads, go away. The data
// lies elsewhere.
type etcd struct {
	authority pki.Pair

	mu      sync.Mutex
	lastID  uint64
	leader  uint64
	members []*member
}

// member is one etcd, on the machine whose name it has.
type member struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer

	etcd   *etcd
	id     uint64
	name   string
	server *grpc.Server
	// address is where it serves in truth.
	address string
}

// join adds a member and starts it.
func (e *etcd) join(name string) (*member, error) {
	serving, err := pki.ServingCertificate(e.authority, name, []string{name}, time.Now(), time.Hour)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(serving.Certificate, serving.Key)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(e.authority.Certificate) {
		return nil, errors.New("etcd: no certificate of an authority")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastID++
	m := &member{
		etcd: e, id: e.lastID, name: name, address: listener.Addr().String(),
		server: grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
			ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		}))),
	}
	pb.RegisterClusterServer(m.server, m)
	pb.RegisterMaintenanceServer(m.server, m)
	go func() { _ = m.server.Serve(listener) }()
	e.members = append(e.members, m)
	if e.leader == 0 {
		e.leader = m.id
	}
	return m, nil
}

// off is the end of a member's machine. The others go on counting it until
// a client removes it, as etcd does; if it led, another one leads now.
func (e *etcd) off(m *member) {
	m.server.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leader != m.id {
		return
	}
	for _, other := range e.members {
		if other != m {
			e.leader = other.id
			return
		}
	}
}

func (e *etcd) header(m *member) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: m.id, RaftTerm: 1}
}

func (e *etcd) list() []*pb.Member {
	var list []*pb.Member
	for _, m := range e.members {
		list = append(list, &pb.Member{
			ID: m.id, Name: m.name,
			PeerURLs: []string{"https://" + m.name + ":2380"}, ClientURLs: []string{"https://" + m.name + ":2379"},
		})
	}
	return list
}

// MemberList answers who belongs to the cluster.
func (m *member) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	return &pb.MemberListResponse{Header: m.etcd.header(m), Members: m.etcd.list()}, nil
}

// MemberRemove removes a member.
func (m *member) MemberRemove(_ context.Context, request *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	e := m.etcd
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.members, func(other *member) bool { return other.id == request.ID })
	if i < 0 {
		return nil, status.Error(codes.NotFound, "etcdserver: member not found")
	}
	if request.ID == e.leader {
		return nil, status.Error(codes.FailedPrecondition, fmt.Sprintf("%s leads: move that first", e.members[i].name))
	}
	e.members = slices.Delete(e.members, i, i+1)
	return &pb.MemberRemoveResponse{Header: e.header(m), Members: e.list()}, nil
}

// Status answers who leads.
func (m *member) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	return &pb.StatusResponse{Header: m.etcd.header(m), Version: "3.6.8", Leader: m.etcd.leader, RaftTerm: 1}, nil
}

// Alarm answers that there is none.
func (m *member) Alarm(context.Context, *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	return &pb.AlarmResponse{Header: m.etcd.header(m)}, nil
}

// MoveLeader has another member lead.
func (m *member) MoveLeader(_ context.Context, request *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	if m.etcd.leader != m.id {
		return nil, status.Error(codes.FailedPrecondition, "etcdserver: not leader")
	}
	m.etcd.leader = request.TargetID
	return &pb.MoveLeaderResponse{Header: m.etcd.header(m)}, nil
}
