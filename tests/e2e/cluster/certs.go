package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates into files of one directory.
type Authority struct {
	T    testing.TB
	Dir  string
	File string // its own certificate
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	// by rename, as who renews certificates does it
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// NewAuthority makes one whose certificate is DIR/NAME.pem.
func NewAuthority(t testing.TB, dir, name string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{T: t, Dir: dir, File: filepath.Join(dir, name+".pem"), Cert: cert, key: key}
	writePEM(t, a.File, "CERTIFICATE", der)
	return a
}

// Issue writes DIR/NAME.pem and DIR/NAME.key, for hosts (names or addresses), valid until then; the paths.
func (a *Authority) Issue(name string, until time.Time, hosts ...string) (cert, key string) {
	a.T.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.T.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial(a.T), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, &private.PublicKey, a.key)
	if err != nil {
		a.T.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.T.Fatal(err)
	}
	cert, key = filepath.Join(a.Dir, name+".pem"), filepath.Join(a.Dir, name+".key")
	writePEM(a.T, cert, "CERTIFICATE", der)
	writePEM(a.T, key, "PRIVATE KEY", pkcs8)
	return cert, key
}

// Revoke writes DIR/NAME.crl, the list of these certificates; its path.
func (a *Authority) Revoke(name string, certs ...*x509.Certificate) string {
	a.T.Helper()
	list := &x509.RevocationList{Number: serial(a.T), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		a.T.Fatal(err)
	}
	path := filepath.Join(a.Dir, name+".crl")
	writePEM(a.T, path, "X509 CRL", der)
	return path
}

// Client is a configuration that trusts this authority, and shows a certificate of it if name is not empty.
func (a *Authority) Client(name string) *tls.Config {
	a.T.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	c := &tls.Config{RootCAs: pool}
	if name != "" {
		cert, key := a.Issue(name, time.Now().Add(time.Hour))
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			a.T.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}
