package node

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

const hour = time.Hour

func secure(url string) string { return strings.Replace(url, "http://", "https://", 1) }

// mutual lays out three nodes whose peers speak mutual TLS; node i has the files n<i>.pem and n<i>.key of the authority.
func mutual(t *testing.T, ca *cluster.Authority, trusted string) *cluster.Cluster {
	t.Helper()
	c := cluster.New(t, cluster.Options{Nodes: 3, Flags: func(n *cluster.Node) []string {
		return []string{"--peer-cert-file", filepath.Join(ca.Dir, n.Name+".pem"), "--peer-key-file", filepath.Join(ca.Dir, n.Name+".key"),
			"--peer-trusted-ca-file", trusted, "--peer-client-cert-auth"}
	}})
	for _, n := range c.Nodes {
		n.PeerURL = secure(n.PeerURL)
		ca.Issue(n.Name, time.Now().Add(hour), "127.0.0.1")
	}
	return c
}

func waitLog(t *testing.T, n *cluster.Node, text string) {
	t.Helper()
	cluster.Until(t, n.Name+" says: "+text, func() (bool, string) { return strings.Contains(n.Log(), text), "not yet" })
}

func copyFiles(t *testing.T, to string, from ...string) {
	t.Helper()
	var all bytes.Buffer
	for _, f := range from {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	if err := os.WriteFile(to, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Three nodes by mutual TLS work as others do, and nobody without a certificate of the authority gets a word out of them.
func TestPeersByMutualTLS(t *testing.T) {
	ca := cluster.NewAuthority(t, cluster.TempDir(t), "ca")
	other := cluster.NewAuthority(t, cluster.TempDir(t), "other")
	c := mutual(t, ca, ca.File)
	c.StartAll()
	leader := c.Leader()
	for _, n := range c.Nodes {
		if _, err := n.Put("k-"+n.Name, "by TLS"); err != nil {
			t.Fatal(err)
		}
	}
	address := leader.PeerURL[len("https://"):]

	// plain: neither the hello of a peer nor HTTP
	for _, greeting := range []string{"GET / HTTP/1.1\r\n\r\n", "\x2c\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00QFSPEER\xa6"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(cluster.Bound))
		conn.Write([]byte(greeting))
		answer, err := io.ReadAll(conn)
		if err != nil && os.IsTimeout(err) {
			t.Errorf("plain %q is not sent away", greeting)
		}
		if len(answer) > 0 && answer[0] != 0x15 { // an alert
			t.Errorf("plain %q got %q", greeting, answer)
		}
		conn.Close()
	}
	waitLog(t, leader, "it speaks plain HTTP, not TLS")

	// TLS without a certificate, and with one of another authority
	for name, config := range map[string]*tls.Config{"none": ca.Client(""), "another authority's": other.Client("stranger")} {
		config.RootCAs = ca.Client("").RootCAs
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			conn.SetDeadline(time.Now().Add(cluster.Bound))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("with the certificate %s: %v", name, err)
		}
	}

	// a leader that dies is replaced, and comes back
	leader.Kill()
	rest := c.Others(leader)
	cluster.Until(t, "a write without it", func() (bool, string) {
		_, err := rest[0].Put("k", "v")
		return err == nil, fmt.Sprint(err)
	})
	leader.Start()
	if v, err := leader.Get("k"); err != nil || v != "v" {
		t.Errorf("after the return: %q, %v", v, err)
	}
}

// The authority is changed on a running cluster: trust both, renew, forget the old one. A damaged file in between harms nobody.
func TestCertificatesAreRenewedWithoutARestart(t *testing.T) {
	dir := cluster.TempDir(t)
	old, next := cluster.NewAuthority(t, dir, "old"), cluster.NewAuthority(t, dir, "next")
	trusted := filepath.Join(dir, "trusted.pem")
	copyFiles(t, trusted, old.File)
	c := mutual(t, old, trusted)
	c.StartAll()
	reconnect := func(n *cluster.Node) { // whoever starts anew makes connections in both directions
		t.Helper()
		n.Kill()
		n.Start()
		if _, err := n.Put("k", n.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "n2.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	reconnect(c.Nodes[0])
	waitLog(t, c.Nodes[1], "n2.pem: there is no certificate in PEM form in it; the certificates from before stay in use")
	copyFiles(t, trusted, old.File, next.File)
	for _, n := range c.Nodes {
		next.Issue(n.Name, time.Now().Add(hour), "127.0.0.1")
	}
	reconnect(c.Nodes[0])
	waitLog(t, c.Nodes[1], "certificates are loaded anew")
	copyFiles(t, trusted, next.File)
	reconnect(c.Nodes[0])
	reconnect(c.Nodes[2])
	if v, err := c.Nodes[1].Get("k"); err != nil || v != "n3" {
		t.Errorf("%q, %v", v, err)
	}
}

// A node whose certificate has expired is alone, says so, and is back as soon as it is renewed.
func TestAnExpiredCertificateIsSaidAndRenewed(t *testing.T) {
	ca := cluster.NewAuthority(t, cluster.TempDir(t), "ca")
	c := mutual(t, ca, ca.File)
	c.StartAll()
	late := c.Nodes[2]
	late.Kill()
	ca.Issue(late.Name, time.Now().Add(-time.Minute), "127.0.0.1")
	late.Spawn()
	waitLog(t, late, late.Name+".pem: it has expired on")
	waitLog(t, c.Nodes[0], "its certificate is refused: certificate has expired")
	if _, err := c.Nodes[0].Put("k", "v"); err != nil {
		t.Fatal(err)
	}
	ca.Issue(late.Name, time.Now().Add(hour), "127.0.0.1")
	late.WaitReady()
	if v, err := late.Get("k"); err != nil || v != "v" {
		t.Errorf("%q, %v", v, err)
	}
}

// The authority vouches for it, but as somebody else: it cannot take a member's place.
func TestACertificateIsForOneMember(t *testing.T) {
	ca := cluster.NewAuthority(t, cluster.TempDir(t), "ca")
	c := mutual(t, ca, ca.File)
	ca.Issue("n3", time.Now().Add(hour), "127.0.0.9")
	c.Nodes[0].Spawn()
	c.Nodes[1].Spawn()
	c.Nodes[2].Spawn()
	c.Nodes[0].WaitReady()
	waitLog(t, c.Nodes[0], "its certificate is for none of the hosts of the peer URLs of member")
	waitLog(t, c.Nodes[2], "it refuses us: its certificate is for none of the hosts")
	waitLog(t, c.Nodes[0], "IP address mismatch")
	if strings.Contains(c.Nodes[2].Log(), cluster.ReadyLine) {
		t.Error("it has become ready")
	}
}

func TestPeersMakeTheirOwnCertificates(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 3, Flags: func(n *cluster.Node) []string {
		return []string{"--peer-auto-tls", "--auto-tls"}
	}})
	for _, n := range c.Nodes {
		n.PeerURL, n.ClientURL = secure(n.PeerURL), secure(n.ClientURL)
	}
	c.StartAll()
	if _, err := c.Nodes[0].Put("k", "v"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"peer", "client"} {
		info, err := os.Stat(filepath.Join(c.Nodes[0].DataDir, "fixtures", kind, "key.pem"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", kind, info, err)
		}
	}
	conn, err := tls.Dial("tcp", c.Nodes[0].Endpoint(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.ConnectionState().PeerCertificates[0].VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
	conn.Close()
}

// health asks /health and returns the body, the error, and the serial number of the certificate that was shown.
func health(url string, config *tls.Config) (body string, serial string, err error) {
	client := &http.Client{Timeout: cluster.Bound, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	r, err := client.Get(url + "/health")
	if err != nil {
		return "", "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if r.TLS != nil {
		serial = r.TLS.PeerCertificates[0].SerialNumber.String()
	}
	return string(b), serial, err
}

// Clients by TLS: who must show a certificate, one port with and without, files that are renewed.
func TestClientsByTLS(t *testing.T) {
	ca := cluster.NewAuthority(t, cluster.TempDir(t), "ca")
	other := cluster.NewAuthority(t, cluster.TempDir(t), "other")
	cert, key := ca.Issue("node", time.Now().Add(hour), "127.0.0.1")
	port := cluster.FreePort(t)
	c := cluster.New(t, cluster.Options{Flags: func(n *cluster.Node) []string {
		return []string{"--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.File, "--client-cert-auth"}
	}})
	n := c.Nodes[0]
	both := fmt.Sprintf("://127.0.0.1:%d", port)
	n.ClientURL = secure(n.ClientURL) + ",http" + both + ",https" + both
	c.StartAll()
	only := strings.Split(n.ClientURL, ",")[0]
	mine := ca.Client("client")
	body, first, err := health(only, mine)
	if err != nil || !strings.Contains(body, `"true"`) {
		t.Fatalf("%q, %v", body, err)
	}
	for what, url := range map[string]string{"http on the port of both": "http" + both, "https on it": "https" + both} {
		if body, _, err := health(url, mine); err != nil || !strings.Contains(body, `"true"`) {
			t.Errorf("%s: %q, %v", what, body, err)
		}
	}
	if body, _, err := health(strings.Replace(only, "https", "http", 1), nil); err == nil && !strings.Contains(body, "HTTPS server") {
		t.Errorf("http on the port of https: %q", body)
	}
	strangers := other.Client("stranger")
	strangers.RootCAs = mine.RootCAs
	for what, config := range map[string]*tls.Config{"no certificate": ca.Client(""), "a strange one": strangers} {
		if body, _, err := health(only, config); err == nil { // which error depends on who is faster
			t.Errorf("%s: %q", what, body)
		}
	}
	waitLog(t, n, "it shows no certificate, and one is wanted")
	ca.Issue("node", time.Now().Add(hour), "127.0.0.1")
	if _, second, err := health(only, mine); err != nil || second == first {
		t.Errorf("after the renewal: %s, %v", second, err)
	}
	if err := os.WriteFile(key, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := health(only, mine); err != nil {
		t.Errorf("with a damaged key: %v", err)
	}
	waitLog(t, n, "there is no private key in PEM form in it; the certificates from before stay in use")
	if out, err := exec.Command(cluster.Program("quorumctl"), "--socket", n.Socket(), "status").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A client whose certificate is revoked is refused from then on, others are not; only the suites that are named are spoken.
func TestRevokedClientsAndCipherSuites(t *testing.T) {
	ca := cluster.NewAuthority(t, cluster.TempDir(t), "ca")
	cert, key := ca.Issue("node", time.Now().Add(hour), "127.0.0.1")
	crl := ca.Revoke("clients")
	const suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	c := cluster.New(t, cluster.Options{Flags: func(n *cluster.Node) []string {
		return []string{"--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.File, "--client-crl-file", crl, "--cipher-suites", suite}
	}})
	n := c.Nodes[0]
	n.ClientURL = secure(n.ClientURL)
	c.StartAll()
	gone, stays := ca.Client("gone"), ca.Client("stays")
	for _, client := range []*tls.Config{gone, stays} {
		if body, _, err := health(n.ClientURL, client); err != nil || !strings.Contains(body, `"true"`) {
			t.Fatalf("%q, %v", body, err)
		}
	}
	ca.Revoke("clients", gone.Certificates[0].Leaf)
	if body, _, err := health(n.ClientURL, gone); err == nil {
		t.Errorf("a revoked certificate: %q", body)
	}
	waitLog(t, n, "a certificate of its chain was revoked (gone)")
	if _, _, err := health(n.ClientURL, stays); err != nil {
		t.Error(err)
	}
	stays.MaxVersion = tls.VersionTLS12
	conn, err := tls.Dial("tcp", n.Endpoint(), stays)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := tls.CipherSuiteName(conn.ConnectionState().CipherSuite); got != suite {
		t.Errorf("%s is spoken", got)
	}
}

// What cannot work is said in one line before anything runs.
func TestBadCertificatesAreRefusedAtTheStart(t *testing.T) {
	ca := cluster.NewAuthority(t, cluster.TempDir(t), "ca")
	cert, key := ca.Issue("node", time.Now().Add(hour), "127.0.0.1")
	_, otherKey := ca.Issue("other", time.Now().Add(hour), "127.0.0.1")
	for _, bad := range []struct {
		says  string
		flags []string
	}{
		{"TLS needs --peer-cert-file and --peer-key-file", nil},
		{"No such file", []string{"--peer-cert-file", "/nowhere.pem", "--peer-key-file", key}},
		{"does not belong to the certificate", []string{"--peer-cert-file", cert, "--peer-key-file", otherKey}},
		{"no certificate in PEM form", []string{"--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", key}},
		{"no private key in PEM form", []string{"--peer-cert-file", cert, "--peer-key-file", key, "--cert-file", cert, "--key-file", ca.File}},
	} {
		c := cluster.New(t, cluster.Options{Flags: func(n *cluster.Node) []string { return bad.flags }})
		n := c.Nodes[0]
		n.PeerURL = secure(n.PeerURL)
		n.Spawn()
		if status := n.Wait(); status != 1 {
			t.Errorf("%v: status %d", bad.flags, status)
		}
		if lines := strings.TrimSpace(n.Log()); !strings.Contains(lines, bad.says) || strings.Count(lines, "\n") != 0 {
			t.Errorf("%v says:\n%s", bad.flags, lines)
		}
	}
}
