// Command pki makes what a cluster needs of keys and certificates: a certificate
// authority (ca.crt, ca.key), the service accounts' signing key (sa.key), and a
// certificate with its key for each line of its input:
//
//	NAME client|server SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
//	n1-serving server O=system:nodes,CN=system:node:n1 n1,198.18.0.11,127.0.0.1
//
// What is in the directory already stays.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var usages = map[string]x509.ExtKeyUsage{"client": x509.ExtKeyUsageClientAuth, "server": x509.ExtKeyUsageServerAuth}

// authority signs into one directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("pki: ")
	dir := flag.String("dir", ".", "directory of keys and certificates")
	name := flag.String("ca", "ca", "common name of the certificate authority")
	flag.Parse()
	if err := run(*dir, *name); err != nil {
		log.Fatal(err)
	}
}

func run(dir, name string) error {
	a, err := newAuthority(dir, name)
	if err != nil {
		return err
	}
	if _, err := loadKey(filepath.Join(dir, "sa.key")); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := a.issue(strings.Fields(in.Text())); err != nil {
			return fmt.Errorf("%q: %w", in.Text(), err)
		}
	}
	return in.Err()
}

func newAuthority(dir, name string) (*authority, error) {
	key, err := loadKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "ca.crt")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		t := template(pkix.Name{CommonName: name})
		t.IsCA = true
		t.BasicConstraintsValid = true
		t.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		b, err = sign(file, t, t, key, key)
	}
	if err != nil {
		return nil, err
	}
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	cert, err := x509.ParseCertificate(p.Bytes)
	return &authority{dir, cert, key}, err
}

// issue makes the certificate of one line of input.
func (a *authority) issue(line []string) error {
	if len(line) < 3 {
		return errors.New("wants NAME client|server SUBJECT [NAMES]")
	}
	file := filepath.Join(a.dir, line[0]+".crt")
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	usage, ok := usages[line[1]]
	if !ok {
		return fmt.Errorf("%s is neither client nor server", line[1])
	}
	var subject pkix.Name
	for _, s := range strings.Split(line[2], ",") {
		if o, ok := strings.CutPrefix(s, "O="); ok {
			subject.Organization = append(subject.Organization, o)
		} else {
			subject.CommonName = strings.TrimPrefix(s, "CN=")
		}
	}
	t := template(subject)
	t.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	if len(line) > 3 {
		for _, s := range strings.Split(line[3], ",") {
			if ip := net.ParseIP(s); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else {
				t.DNSNames = append(t.DNSNames, s)
			}
		}
	}
	key, err := loadKey(filepath.Join(a.dir, line[0]+".key"))
	if err != nil {
		return err
	}
	_, err = sign(file, t, a.cert, key, a.key)
	return err
}

// template is valid from an hour ago, for clocks that differ, for ten years.
func template(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func sign(file string, t, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return b, os.WriteFile(file, b, 0o644)
}

// loadKey reads the key in file, or makes one there.
func loadKey(file string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		p, _ := pem.Decode(b)
		if p == nil {
			return nil, fmt.Errorf("%s is not PEM", file)
		}
		return x509.ParseECPrivateKey(p.Bytes)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
