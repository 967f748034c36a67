// Conformance of the gRPC layer, with the service of tests/grpc: h2spec, and the cases of grpc's interoperability client, each
// plainly and by TLS. Of these those of authentication and load reports are not here: they are about things that the layer does not
// have. For compression grpc-go's client has no cases: our own.
package grpc

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"quorumfs.test/e2e/cluster"
)

// serve starts the service and returns its port and how to speak to it; it ends, with status 0, when the test does.
func serve(t *testing.T, sealed bool) (int, credentials.TransportCredentials) {
	t.Helper()
	cluster.Need(t, "e2e/grpc-testservice")
	creds := insecure.NewCredentials()
	var words []string
	if sealed {
		ca := cluster.NewAuthority(t, t.TempDir(), "ca")
		cert, key := ca.Issue("service", time.Now().Add(time.Hour), "127.0.0.1")
		words = []string{cert, key}
		creds = credentials.NewTLS(ca.Client(""))
	}
	cmd := exec.Command(cluster.Program("e2e/grpc-testservice"), words...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		timer := time.AfterFunc(cluster.Bound, func() { cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the service: %v", err)
		}
	})
	var port int
	if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
		t.Fatal(err)
	}
	return port, creds
}

// Interop runs grpc-go's own cases. A case that fails ends the whole program with its message: that is how they are made.
func TestInterop(t *testing.T)    { testInterop(t, false) }
func TestInteropTLS(t *testing.T) { testInterop(t, true) }

func dial(t *testing.T, sealed bool, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	port, creds := serve(t, sealed)
	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", port), append(options, grpc.WithTransportCredentials(creds))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func testInterop(t *testing.T, sealed bool) {
	conn := dial(t, sealed)
	c := testgrpc.NewTestServiceClient(conn)
	for name, run := range map[string]func(context.Context){
		"empty_unary":                 func(ctx context.Context) { interop.DoEmptyUnaryCall(ctx, c) },
		"large_unary":                 func(ctx context.Context) { interop.DoLargeUnaryCall(ctx, c) },
		"client_streaming":            func(ctx context.Context) { interop.DoClientStreaming(ctx, c) },
		"server_streaming":            func(ctx context.Context) { interop.DoServerStreaming(ctx, c) },
		"ping_pong":                   func(ctx context.Context) { interop.DoPingPong(ctx, c) },
		"empty_stream":                func(ctx context.Context) { interop.DoEmptyStream(ctx, c) },
		"timeout_on_sleeping_server":  func(ctx context.Context) { interop.DoTimeoutOnSleepingServer(ctx, c) },
		"cancel_after_begin":          func(ctx context.Context) { interop.DoCancelAfterBegin(ctx, c) },
		"cancel_after_first_response": func(ctx context.Context) { interop.DoCancelAfterFirstResponse(ctx, c) },
		"status_code_and_message":     func(ctx context.Context) { interop.DoStatusCodeAndMessage(ctx, c) },
		"special_status_message":      func(ctx context.Context) { interop.DoSpecialStatusMessage(ctx, c) },
		"custom_metadata":             func(ctx context.Context) { interop.DoCustomMetadata(ctx, c) },
		"unimplemented_method":        func(ctx context.Context) { interop.DoUnimplementedMethod(ctx, conn) },
		"unimplemented_service": func(ctx context.Context) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
			defer cancel()
			run(ctx)
		})
	}
}

// strange is a compressor whose name no server knows.
type strange struct{}

func (strange) Name() string                                 { return "strange" }
func (strange) Compress(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil }
func (strange) Decompress(r io.Reader) (io.Reader, error)    { return r, nil }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Compressed: requests of every kind by gzip; one that is too large when it is unpacked; an encoding that is not known.
func TestCompressed(t *testing.T) {
	encoding.RegisterCompressor(strange{})
	conn := dial(t, false, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	c := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
	defer cancel()
	interop.DoEmptyUnaryCall(ctx, c)
	interop.DoLargeUnaryCall(ctx, c)
	interop.DoClientStreaming(ctx, c)
	interop.DoServerStreaming(ctx, c)
	interop.DoPingPong(ctx, c)
	interop.DoStatusCodeAndMessage(ctx, c)
	zeros := &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, 8<<20)}} // 8 KiB on the wire
	for i := 0; i < 20; i++ {
		_, err := c.UnaryCall(ctx, zeros)
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "after decompression larger than max") {
			t.Fatalf("a bomb: %v", err)
		}
	}
	_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{}, grpc.UseCompressor("strange"))
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), `"strange"`) {
		t.Fatalf("an unknown encoding: %v", err)
	}
	interop.DoLargeUnaryCall(ctx, c) // on the same connection
}

// A stop lets what is under way arrive: clients that go on calling meet a server that is gone, but none loses a call that it had sent.
func TestStopLosesNoCall(t *testing.T) {
	cluster.Need(t, "e2e/grpc-testservice")
	for round := 0; round < 5; round++ {
		cmd := exec.Command(cluster.Program("e2e/grpc-testservice"))
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var port int
		if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		var served atomic.Int64
		warm := make(chan struct{}, 1000)
		for i := 0; i < 20; i++ {
			calls.Add(1)
			go func() {
				defer calls.Done()
				conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				c := testgrpc.NewTestServiceClient(conn)
				ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
				defer cancel()
				for n := 0; ; n++ {
					_, err := c.EmptyCall(ctx, &testgrpc.Empty{})
					if err == nil {
						served.Add(1)
						if n == 100 {
							warm <- struct{}{}
						}
						continue
					}
					if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "refused") {
						t.Errorf("round %d: after %d calls: %v", round, n, err)
					}
					return
				}
			}()
		}
		for i := 0; i < 20; i++ {
			<-warm
		}
		in.Close()
		calls.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the service: %v", err)
		}
		if served.Load() < 2000 {
			t.Errorf("%d calls", served.Load())
		}
	}
}

// known are the cases of h2spec that may fail, with the reason.
var known = []string{
	"Sends invalid connection preface",                         // it is an HTTP/1.1 request to us, and gets an answer before the end
	"Sends stream identifier that is numerically smaller than", // nghttp2 ignores the frame
	"Sends a GOAWAY frame with unknown error code",             // the connection is closed, at times with a reset
}

func TestH2spec(t *testing.T)    { testH2spec(t, false) }
func TestH2specTLS(t *testing.T) { testH2spec(t, true) }

func testH2spec(t *testing.T, sealed bool) {
	port, _ := serve(t, sealed)
	stdout := os.Stdout
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout = w // h2spec prints its report there
	text := make(chan string)
	go func() {
		var b bytes.Buffer
		io.Copy(&b, r)
		text <- b.String()
	}()
	_, err = h2spec.Run(&config.Config{Host: "127.0.0.1", Port: port, Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000, Strict: true,
		TLS: sealed, Insecure: true})
	w.Close()
	os.Stdout = stdout
	report := <-text
	if err != nil {
		t.Fatal(err)
	}
	sums := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindStringSubmatch(report)
	if sums == nil {
		t.Fatalf("no sums in the report:\n%s", report)
	}
	t.Log(sums[0])
	_, failures, _ := strings.Cut(report, "Failures:")
	for _, line := range strings.Split(failures, "\n") {
		if !strings.Contains(line, "×") {
			continue
		}
		expected := false
		for _, k := range known {
			expected = expected || strings.Contains(line, k)
		}
		if !expected {
			t.Errorf("h2spec: %s", strings.TrimSpace(line))
		}
	}
	if t.Failed() {
		t.Log(failures)
	}
}
