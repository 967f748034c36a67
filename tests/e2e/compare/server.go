// Package compare puts the same requests to etcd and to quorumfs and compares the answers: every field, code and text, but for
// numbers that each server chooses itself (members, clusters, terms) and what a clock says.
package compare

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const bound = 30 * time.Second

type server struct {
	conn *grpc.ClientConn
}

func dial(endpoint string) (*server, error) {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	return &server{conn}, err
}

// mask takes away what each server chooses for itself, and says whether it was there.
func mask(h *pb.ResponseHeader) {
	if h == nil {
		return
	}
	for _, id := range []*uint64{&h.ClusterId, &h.MemberId, &h.RaftTerm} {
		if *id != 0 {
			*id = 1
		}
	}
}

// answer is the text of a response, and the revision in its header.
func answer(r interface {
	String() string
	GetHeader() *pb.ResponseHeader
}, err error) (string, int64) {
	if err != nil {
		s, _ := status.FromError(err)
		return fmt.Sprintf("%v: %s", s.Code(), s.Message()), 0
	}
	mask(r.GetHeader())
	if r.GetHeader() == nil {
		return r.String() + " (no header)", 0
	}
	return r.String(), r.GetHeader().Revision
}

// ask puts a request and returns the answer as text, and the revision that it says, or 0.
func (s *server) ask(request any) (string, int64) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	kv, lease, maintenance, members := pb.NewKVClient(s.conn), pb.NewLeaseClient(s.conn), pb.NewMaintenanceClient(s.conn), pb.NewClusterClient(s.conn)
	switch r := request.(type) {
	case *pb.RangeRequest:
		return answer(kv.Range(ctx, r))
	case *pb.PutRequest:
		return answer(kv.Put(ctx, r))
	case *pb.DeleteRangeRequest:
		return answer(kv.DeleteRange(ctx, r))
	case *pb.TxnRequest:
		a, err := kv.Txn(ctx, r)
		if err == nil {
			maskTxn(a)
		}
		return answer(a, err)
	case *pb.CompactionRequest:
		return answer(kv.Compact(ctx, r))
	case *pb.WatchCreateRequest:
		return s.watch(ctx, r), 0
	case *pb.LeaseGrantRequest:
		return answer(lease.LeaseGrant(ctx, r))
	case *pb.LeaseRevokeRequest:
		return answer(lease.LeaseRevoke(ctx, r))
	case *pb.LeaseTimeToLiveRequest:
		a, err := lease.LeaseTimeToLive(ctx, r)
		if err == nil {
			slices.SortFunc(a.Keys, slices.Compare) // etcd's come in any order
			a.TTL = min(a.TTL, 1)                   // a clock's
		}
		return answer(a, err)
	case *pb.LeaseLeasesRequest:
		a, err := lease.LeaseLeases(ctx, r)
		if err == nil {
			slices.SortFunc(a.Leases, func(x, y *pb.LeaseStatus) int { return int(x.ID - y.ID) })
		}
		return answer(a, err)
	case *pb.LeaseKeepAliveRequest:
		stream, err := lease.LeaseKeepAlive(ctx)
		if err == nil {
			err = stream.Send(r)
		}
		if err != nil {
			return answer((*pb.LeaseKeepAliveResponse)(nil), err)
		}
		return answer(stream.Recv())
	case *pb.AlarmRequest:
		return answer(maintenance.Alarm(ctx, r))
	case *pb.HashKVRequest:
		a, err := maintenance.HashKV(ctx, r)
		if err == nil {
			a.Hash = 1
		}
		return answer(a, err)
	case *pb.MoveLeaderRequest:
		return answer(maintenance.MoveLeader(ctx, r))
	case *pb.DowngradeRequest:
		return answer(maintenance.Downgrade(ctx, r))
	case *pb.MemberAddRequest:
		return answer(members.MemberAdd(ctx, r))
	case *pb.MemberRemoveRequest:
		return answer(members.MemberRemove(ctx, r))
	case *pb.MemberUpdateRequest:
		return answer(members.MemberUpdate(ctx, r))
	case *pb.MemberPromoteRequest:
		return answer(members.MemberPromote(ctx, r))
	}
	panic(fmt.Sprintf("a request of type %T", request))
}

// maskTxn does what mask does in the answers of a transaction, which have headers of their own.
func maskTxn(a *pb.TxnResponse) {
	for _, r := range a.Responses {
		switch r := r.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			mask(r.ResponseRange.Header)
		case *pb.ResponseOp_ResponsePut:
			mask(r.ResponsePut.Header)
		case *pb.ResponseOp_ResponseDeleteRange:
			mask(r.ResponseDeleteRange.Header)
		case *pb.ResponseOp_ResponseTxn:
			mask(r.ResponseTxn.Header)
			maskTxn(r.ResponseTxn)
		}
	}
}

// watch creates one watch on a stream of its own and gathers what it is told up to the newest revision: how it began, its events,
// and how it ended. Events may come in any number of messages.
func (s *server) watch(ctx context.Context, create *pb.WatchCreateRequest) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		return err.Error()
	}
	stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	var out strings.Builder
	first, err := stream.Recv()
	if err != nil {
		return err.Error()
	}
	mask(first.Header)
	fmt.Fprint(&out, "first: ", first)
	if first.Canceled {
		return out.String()
	}
	// Asked again and again, since etcd answers only if all is told at that moment.
	asked := time.NewTicker(20 * time.Millisecond)
	defer asked.Stop()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
			select {
			case <-ended:
				return
			case <-asked.C:
			}
		}
	}()
	for {
		r, err := stream.Recv()
		if err != nil {
			return out.String() + " error: " + err.Error()
		}
		for _, e := range r.Events {
			fmt.Fprint(&out, " event: ", e)
		}
		if r.Canceled || r.WatchId == -1 {
			mask(r.Header)
			r.Events = nil
			fmt.Fprint(&out, " last: ", r)
			return out.String()
		}
	}
}
