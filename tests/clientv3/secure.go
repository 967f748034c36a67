package clientv3

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"quorumfs.test/e2e/cluster"
)

// Secure: every kind of URL from one node: https, http and https on one port, unix and unixs, with clients' certificates, by the
// client, by etcdctl, and compressed.
func Secure(t *testing.T, one, three *cluster.Cluster) {
	dir := cluster.TempDir(t)
	ca := cluster.NewAuthority(t, dir, "ca")
	cert, key := ca.Issue("node", time.Now().Add(time.Hour), "127.0.0.1", "localhost")
	clientCert, clientKey := ca.Issue("client", time.Now().Add(time.Hour))
	both := fmt.Sprintf("127.0.0.1:%d", cluster.FreePort(t))
	only := fmt.Sprintf("127.0.0.1:%d", cluster.FreePort(t))
	plain, sealed := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed")
	c := cluster.New(t, cluster.Options{Flags: func(n *cluster.Node) []string {
		return []string{"--listen-client-urls", "https://" + only + ",http://" + both + ",https://" + both + ",unix://" + plain + ",unixs://" + sealed,
			"--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.File, "--client-cert-auth"}
	}})
	c.StartAll()
	mine, nobody := ca.Client("client"), ca.Client("")
	local := mine.Clone()
	local.ServerName = "localhost" // a path is no name
	for i, x := range []struct {
		endpoint string
		tls      *tls.Config
		options  []grpc.DialOption
	}{
		{"https://" + only, mine, nil},
		{only, mine, nil},
		{"http://" + both, nil, nil},
		{"https://" + both, mine, nil},
		{"unix://" + plain, nil, nil},
		{"unixs://" + sealed, local, nil},
		{"https://" + only, mine, []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))}},
	} {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{x.endpoint}, DialTimeout: cluster.Bound, TLS: x.tls,
			DialOptions: x.options, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		watch := client.Watch(within(t), "/secure", clientv3.WithCreatedNotify())
		if r := next(t, watch); !r.Created {
			t.Errorf("%s: %v", x.endpoint, r)
		}
		value := strings.Repeat(x.endpoint, 10000)
		put(t, client, "/secure", value)
		if r := get(t, client, "/secure"); len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value || r.Kvs[0].Version != int64(i+1) {
			t.Errorf("%s: version %d", x.endpoint, r.Kvs[0].Version)
		}
		if got := events(t, watch, 1); string(got[0].Kv.Value) != value {
			t.Errorf("%s: another event", x.endpoint)
		}
		client.Close()
	}
	for what, x := range map[string]struct {
		endpoint string
		tls      *tls.Config
	}{"no certificate": {"https://" + only, nobody}, "plain at the port of TLS": {"http://" + only, nil}} {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{x.endpoint}, TLS: x.tls, Logger: zap.NewNop()})
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err = client.Get(ctx, "/secure")
			cancel()
			client.Close()
		}
		if err == nil {
			t.Errorf("%s: served", what)
		}
	}
	for _, args := range [][]string{
		{"--endpoints", "https://" + only, "--cacert", ca.File, "--cert", clientCert, "--key", clientKey},
		{"--endpoints", "http://" + both},
		{"--endpoints", "unix://" + plain},
	} {
		cmd := exec.CommandContext(within(t), "etcdctl", append(args, "get", "/secure", "--print-value-only")...)
		cmd.Env = []string{"ETCDCTL_API=3"}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "https://"+only) {
			t.Errorf("etcdctl %v: %v %.200s", args, err, out)
		}
	}
	// a message that is too large when it is unpacked ends its call alone
	conn, err := grpc.Dial(both, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := 0; i < 5; i++ {
		err := bomb(within(t), conn)
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "after decompression") {
			t.Errorf("a bomb: %v", err)
		}
	}
	c.Nodes[0].Stop()
	for _, path := range []string{plain, sealed} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

func bomb(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("/bomb"), Value: make([]byte, 8<<20)})
	return err
}
