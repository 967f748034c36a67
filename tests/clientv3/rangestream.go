package clientv3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"quorumfs.test/e2e/cluster"
)

// rawBytes passes messages as they are: the API modules that these clients are made for do not know RangeStream.
type rawBytes struct{}

func (rawBytes) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawBytes) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}
func (rawBytes) Name() string { return "proto" }

// rangeStream is a stub for KV.RangeStream of etcd 3.7: calls chunk for each RangeResponse.
func rangeStream(ctx context.Context, c *clientv3.Client, r *pb.RangeRequest, chunk func(*pb.RangeResponse) error) error {
	s, err := c.ActiveConnection().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/RangeStream",
		grpc.ForceCodec(rawBytes{}))
	if err != nil {
		return err
	}
	request, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := s.SendMsg(&request); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		var message []byte
		if err := s.RecvMsg(&message); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		number, _, n := protowire.ConsumeTag(message)
		body, m := protowire.ConsumeBytes(message[max(n, 0):])
		if number != 1 || m < 0 || n+m != len(message) {
			return fmt.Errorf("not a RangeStreamResponse: %x", message)
		}
		var response pb.RangeResponse
		if err := response.Unmarshal(body); err != nil {
			return err
		}
		if err := chunk(&response); err != nil {
			return err
		}
	}
}

// RangeStream: its chunks together are Range's answer, of one revision; header, more and count come with the last.
func RangeStream(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, three.Follower())
	value := strings.Repeat("s", 5000)
	const n = 600
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/rstream/%03d", j), value))
		}
		if _, err := c.Txn(within(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	kv := pb.NewKVClient(c.ActiveConnection())
	old := put(t, c, "/rstream/100", "later").Header.Revision - 1
	prefix, end := []byte("/rstream/"), []byte("/rstream0")
	for name, r := range map[string]*pb.RangeRequest{
		"all":        {Key: prefix, RangeEnd: end},
		"limit":      {Key: prefix, RangeEnd: end, Limit: 250},
		"exact":      {Key: prefix, RangeEnd: end, Limit: n},
		"large":      {Key: prefix, RangeEnd: end, Limit: n + 1},
		"keys":       {Key: prefix, RangeEnd: end, KeysOnly: true},
		"count":      {Key: prefix, RangeEnd: end, CountOnly: true},
		"old":        {Key: prefix, RangeEnd: end, Revision: old},
		"local":      {Key: prefix, RangeEnd: end, Serializable: true},
		"ascending":  {Key: prefix, RangeEnd: end, SortOrder: pb.RangeRequest_ASCEND},
		"one":        {Key: []byte("/rstream/100")},
		"one, count": {Key: []byte("/rstream/100"), CountOnly: true},
		"none":       {Key: []byte("/rstream/x")},
		"empty":      {Key: []byte("/rstream/x"), RangeEnd: []byte("/rstream/y")},
	} {
		want, err := kv.Range(within(t), r)
		if err != nil {
			t.Fatal(name, err)
		}
		var got pb.RangeResponse
		chunks := 0
		err = rangeStream(within(t), c, r, func(r *pb.RangeResponse) error {
			if got.Header != nil {
				return errors.New("a chunk behind the one with the header")
			}
			if r.Header == nil && (r.Count != 0 || r.More || len(r.Kvs) == 0) {
				return fmt.Errorf("a chunk before the last with count %d, more %v and %d keys", r.Count, r.More, len(r.Kvs))
			}
			got.Kvs = append(got.Kvs, r.Kvs...)
			got.Header, got.Count, got.More = r.Header, r.Count, r.More
			chunks++
			return nil
		})
		if err != nil || got.Header == nil {
			t.Errorf("%s: %v, header %v", name, err, got.Header)
			continue
		}
		if got.Header.MemberId != want.Header.MemberId || got.Header.Revision < want.Header.Revision || got.Count != want.Count || got.More != want.More || len(got.Kvs) != len(want.Kvs) {
			t.Errorf("%s: %v, count %d, more %v, %d keys; Range has %v, %d, %v, %d", name, got.Header, got.Count, got.More, len(got.Kvs),
				want.Header, want.Count, want.More, len(want.Kvs))
			continue
		}
		for i := range got.Kvs {
			if got.Kvs[i].String() != want.Kvs[i].String() {
				t.Errorf("%s: place %d is %s", name, i, got.Kvs[i].Key)
				break
			}
		}
		if name == "all" && chunks < 5 {
			t.Errorf("3 MB came in %d chunks", chunks)
		}
	}
	for name, x := range map[string]struct {
		r    *pb.RangeRequest
		code codes.Code
		text string
	}{
		"no key":     {&pb.RangeRequest{}, codes.InvalidArgument, "etcdserver: key is not provided"},
		"future":     {&pb.RangeRequest{Key: prefix, RangeEnd: end, Revision: 1 << 40}, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		"descending": {&pb.RangeRequest{Key: prefix, RangeEnd: end, SortOrder: pb.RangeRequest_DESCEND}, codes.Unimplemented, "RangeStream does not support custom sort orders"},
		"by value":   {&pb.RangeRequest{Key: prefix, RangeEnd: end, SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_VALUE}, codes.Unimplemented, "RangeStream does not support custom sort orders"},
		"filter":     {&pb.RangeRequest{Key: prefix, RangeEnd: end, MinModRevision: 1}, codes.Unimplemented, "RangeStream does not support revision filters"},
	} {
		err := rangeStream(within(t), c, x.r, func(*pb.RangeResponse) error { return errors.New("an answer") })
		if status.Code(err) != x.code || status.Convert(err).Message() != x.text {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A stream that nobody reads holds its queue and no more; ended, it leaves nothing.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := errors.New("stop")
	if err := rangeStream(ctx, c, &pb.RangeRequest{Key: prefix, RangeEnd: end}, func(*pb.RangeResponse) error { return stop }); err != stop {
		t.Error(err)
	}
	cancel()
	untilMetric(t, three.Follower(), metricOutput, 0)
}
