// Conformance of the gRPC layer, with the service of tests/grpc: h2spec, and the cases of grpc's interoperability client.
// Of these custom_metadata is not here (the layer hands no metadata of the caller's through), and those of compression,
// authentication and load reports are about things that it does not have.
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
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"quorumfs.test/e2e/cluster"
)

// serve starts the service and returns its port; it ends, with status 0, when the test does.
func serve(t *testing.T) int {
	t.Helper()
	cluster.Need(t, "e2e/grpc-testservice")
	cmd := exec.Command(cluster.Program("e2e/grpc-testservice"))
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
	return port
}

// Interop runs grpc-go's own cases. A case that fails ends the whole program with its message: that is how they are made.
func TestInterop(t *testing.T) {
	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", serve(t)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
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

// known are the cases of h2spec that may fail, with the reason.
var known = []string{
	"Sends invalid connection preface",                         // it is an HTTP/1.1 request to us, and gets an answer before the end
	"Sends stream identifier that is numerically smaller than", // nghttp2 ignores the frame
	"Sends a GOAWAY frame with unknown error code",             // the connection is closed, at times with a reset
}

func TestH2spec(t *testing.T) {
	port := serve(t)
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
	_, err = h2spec.Run(&config.Config{Host: "127.0.0.1", Port: port, Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000, Strict: true})
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
