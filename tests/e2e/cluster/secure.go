package cluster

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// With QUORUMFS_TLS in the environment every cluster speaks mutual TLS, to clients and between its members; a suite that uses what
// is here runs either way. One authority serves the whole program, so that etcdctl can be told of it by the environment.
var secure struct {
	dir       string
	authority *Authority
	files     [4]string // certificate and key of nodes, of clients
	client    *tls.Config
}

// openSecure makes the files; Main does, and removes them.
func openSecure() {
	dir, err := os.MkdirTemp("", "qfs-tls-")
	if err != nil {
		panic(err)
	}
	secure.dir = dir
}

func prepareSecure(t testing.TB) {
	if secure.authority != nil {
		return
	}
	ca := NewAuthority(t, secure.dir, "ca")
	until := time.Now().Add(24 * time.Hour)
	secure.files[0], secure.files[1] = ca.Issue("node", until, "localhost", "127.0.0.1", "::1")
	secure.files[2], secure.files[3] = ca.Issue("client", until)
	secure.client = ca.Client("client")
	secure.authority = ca
	for name, file := range map[string]string{"CACERT": ca.File, "CERT": secure.files[2], "KEY": secure.files[3]} {
		os.Setenv("ETCDCTL_"+name, file)
	}
}

func closeSecure() { os.RemoveAll(secure.dir) }

// ClientTLS is how clients speak to clusters of this program; nil: plainly.
func ClientTLS() *tls.Config {
	if secure.authority == nil {
		return nil
	}
	return secure.client.Clone()
}

// Scheme of the URLs of clusters of this program.
func Scheme() string {
	if os.Getenv("QUORUMFS_TLS") != "" {
		return "https"
	}
	return "http"
}

// SecureFlags are the flags of a node's certificates for clients; none if it is plain.
func SecureFlags() []string {
	if secure.authority == nil {
		return nil
	}
	return []string{"--cert-file", secure.files[0], "--key-file", secure.files[1], "--trusted-ca-file", secure.authority.File}
}

func (n *Node) secureFlags() []string {
	flags := SecureFlags()
	if strings.HasPrefix(n.PeerURL, "https:") && len(flags) > 0 {
		flags = append(flags, "--peer-cert-file", secure.files[0], "--peer-key-file", secure.files[1],
			"--peer-trusted-ca-file", secure.authority.File, "--peer-client-cert-auth")
	}
	return flags
}

// Dial connects to the node's client port as the cluster's clients do.
func (n *Node) Dial() (net.Conn, error) {
	if config := ClientTLS(); config != nil {
		config.NextProtos = []string{"h2"}
		return tls.Dial("tcp", n.Endpoint(), config)
	}
	return net.Dial("tcp", n.Endpoint())
}
