package clientv3

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

// HTTP: pages beside gRPC on one port, with the checks of etcd 3.6.
func HTTP(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		for _, x := range []struct{ path, want string }{
			{"/health", `^{"health":"true","reason":""}$`},
			{"/health?serializable=true", `^{"health":"true","reason":""}$`},
			{"/health?exclude=NOSPACE", `^{"health":"true","reason":""}$`},
			{"/livez", `^ok\n$`},
			{"/livez?verbose", `^\[\+\]serializable_read ok\nok\n$`},
			{"/livez/serializable_read?verbose", `^\[\+\]serializable_read ok\nok\n$`},
			{"/livez/ping", `^ok\n$`},
			{"/readyz", `^ok\n$`},
			{"/readyz?verbose", `^\[\+\]data_corruption ok\n\[\+\]serializable_read ok\n\[\+\]linearizable_read ok\n\[\+\]non_learner ok\nok\n$`},
			{"/readyz?verbose&exclude=linearizable_read&exclude=nonsense&exclude=non_learner", `^\[\+\]data_corruption ok\n\[\+\]serializable_read ok\nok\n$`},
			{"/readyz/linearizable_read?verbose=", `^\[\+\]linearizable_read ok\nok\n$`},
			{"/readyz/data_corruption", `^ok\n$`},
			{"/readyz/non_learner", `^ok\n$`},
			{"/version", `^{"etcdserver":"3\.6\.[0-9]+","etcdcluster":"3\.6\.0","storage":"3\.6\.0"}$`},
			{"/metrics", `(?m)^# TYPE ` + metricWatchers + ` gauge$`},
			{"/metrics", `(?m)^etcd_server_has_leader 1$`},
			{"/metrics", `(?m)^etcd_server_proposals_committed_total [1-9]`},
			{"/metrics", `(?m)^etcd_mvcc_db_total_size_in_bytes [1-9]`},
			{"/metrics", `(?m)^etcd_server_healthchecks_total{name="linearizable_read",status="success",type="readyz"} [1-9]`},
			{"/metrics", `(?m)^process_cpu_seconds_total [0-9]`},
		} {
			code, body, err := fetch(n, x.path)
			if err != nil || code != http.StatusOK || !regexp.MustCompile(x.want).MatchString(body) {
				t.Errorf("%s: %d %q %v", x.path, code, body, err)
			}
		}
		for _, path := range []string{"/nothing", "/livez/linearizable_read", "/readyz/nothing", "/livezx", "/readyz/"} {
			if code, _, err := fetch(n, path); err != nil || code != http.StatusNotFound {
				t.Errorf("%s: %d %v", path, code, err)
			}
		}
	}
	// Each line of /metrics has one form, and each name is told of once.
	_, body, err := fetch(one.Nodes[0], "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	line := regexp.MustCompile(`^([a-z_0-9]+)({[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*})? [0-9.]+$`)
	for _, l := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		if f := strings.Fields(l); f[0] == "#" {
			if f[1] == "TYPE" && types[f[2]] {
				t.Errorf("%s has two types", f[2])
			}
			types[f[2]] = types[f[2]] || f[1] == "TYPE"
		} else if m := line.FindStringSubmatch(l); m == nil || !types[m[1]] {
			t.Errorf("line %q", l)
		}
	}
}

// notReady is what /readyz says of a node without a quorum.
func notReady(t *testing.T, n *cluster.Node) {
	t.Helper()
	code, body, err := fetch(n, "/readyz")
	if err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "[+]serializable_read ok\n") ||
		!regexp.MustCompile(`\[-\]linearizable_read failed: etcdserver: .*\n`).MatchString(body) {
		t.Errorf("/readyz: %d %q %v", code, body, err)
	}
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz?exclude=linearizable_read": http.StatusOK,
		"/readyz/linearizable_read": http.StatusServiceUnavailable, "/health?serializable=true": http.StatusOK} {
		if code, body, err := fetch(n, path); err != nil || code != want {
			t.Errorf("%s: %d %q %v", path, code, fmt.Sprint(body), err)
		}
	}
}
