package courier

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func pemOf(certificate []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
}

// postOffice is a mail server that speaks as much SMTP as a test needs.
type postOffice struct {
	port     int
	ca       string
	login    string            // the mechanism it offers; empty: none
	implicit bool              // TLS from the first byte
	answers  map[string]string // instead of 250, by command
	letters  chan letterOf
}

type letterOf struct {
	from, user, password string
	to                   []string
	text                 string
	protected            bool
}

func newPostOffice(t *testing.T, configure ...func(*postOffice)) *postOffice {
	t.Helper()
	certificate, authority := selfSigned(t)
	o := &postOffice{ca: authority, letters: make(chan letterOf, 4), answers: map[string]string{}}
	for _, c := range configure {
		c(o)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address, ok := listener.Addr().(*net.TCPAddr)
	require.True(t, ok)
	o.port = address.Port
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			o.serve(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		<-done
	})
	return o
}

func (o *postOffice) serve(conn net.Conn, config *tls.Config) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var l letterOf
	if o.implicit {
		conn, l.protected = tls.Server(conn, config), true
	}
	in := bufio.NewReader(conn)
	say := func(lines ...string) { _, _ = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n") }
	line := func() string { text, _ := in.ReadString('\n'); return strings.TrimRight(text, "\r\n") }
	decoded := func(text string) string { raw, _ := base64.StdEncoding.DecodeString(text); return string(raw) }
	say("220 post office")
	for {
		text := line()
		command, argument, _ := strings.Cut(text, " ")
		if answer, has := o.answers[command]; has {
			say(answer)
			continue
		}
		switch command {
		case "":
			return
		case "EHLO":
			offers := []string{"250-hello", "250-8BITMIME"}
			if !l.protected {
				offers = append(offers, "250-STARTTLS")
			}
			if o.login != "" {
				offers = append(offers, "250-AUTH "+o.login)
			}
			say(append(offers, "250 SIZE 1000000")...)
		case "STARTTLS":
			say("220 go on")
			conn, l.protected = tls.Server(conn, config), true
			in = bufio.NewReader(conn)
		case "AUTH":
			mechanism, first, _ := strings.Cut(argument, " ")
			if mechanism == "PLAIN" {
				parts := strings.Split(decoded(first), "\x00")
				l.user, l.password = parts[1], parts[2]
			} else {
				say("334 " + base64.StdEncoding.EncodeToString([]byte("Username:")))
				l.user = decoded(line())
				say("334 " + base64.StdEncoding.EncodeToString([]byte("Password:")))
				l.password = decoded(line())
			}
			say("235 welcome")
		case "MAIL":
			l.from = argument
			say("250 ok")
		case "RCPT":
			l.to = append(l.to, argument)
			say("250 ok")
		case "DATA":
			say("354 go on")
			var body strings.Builder
			for text := line(); text != "."; text = line() {
				body.WriteString(strings.TrimPrefix(text, ".") + "\r\n")
			}
			l.text = body.String()
			say("250 taken")
			o.letters <- l
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 what")
		}
	}
}

func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pemOf(raw)
}

// config is that of a channel to the post office.
func (o *postOffice) config(more map[string]any) map[string]any {
	config := map[string]any{
		"host": "localhost", "port": float64(o.port), "from": "Backups <backups@example.com>", "to": "a@example.com, Bée <b@example.com>", "ca_certificate": o.ca,
	}
	for key, value := range more {
		config[key] = value
	}
	return config
}

func TestALetterArrivesWholeInEveryWayToConnect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		office func(*postOffice)
		config map[string]any
	}{
		"STARTTLS and PLAIN": {func(o *postOffice) { o.login = "PLAIN LOGIN" }, map[string]any{"username": "u", "password": "p4ss"}},
		"TLS and LOGIN":      {func(o *postOffice) { o.login, o.implicit = "LOGIN", true }, map[string]any{"tls": "tls", "username": "u", "password": "p4ss"}},
		"nothing":            {func(*postOffice) {}, map[string]any{"tls": "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newPostOffice(t, c.office)
			courier := New(netguard.Policy{})
			n := nasty()
			n.Message = strings.Repeat("Größe = 1\n.\n", 30)
			require.NoError(t, courier.Send(t.Context(), channelOf(t, courier, "smtp", o.config(c.config)), n, deliveryID))
			l := <-o.letters
			require.Equal(t, c.config["tls"] != "none", l.protected)
			if c.config["username"] != nil {
				require.Equal(t, []string{"u", "p4ss"}, []string{l.user, l.password})
			}
			require.Contains(t, l.from, "<backups@example.com>")
			require.Len(t, l.to, 2)
			m, err := mail.ReadMessage(strings.NewReader(l.text))
			require.NoError(t, err)
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			require.NoError(t, err)
			require.Equal(t, "[CRITICAL] Backup of shop Bcc: x@example.com failed", subject)
			require.Empty(t, m.Header.Get("Bcc"))
			require.Equal(t, "<"+deliveryID+"@example.com>", m.Header.Get("Message-ID"))
			to, err := m.Header.AddressList("To")
			require.NoError(t, err)
			require.Equal(t, "Bée", to[1].Name)
			body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(strings.ReplaceAll(string(body), "\r\n", "\n"), n.Message), "%s", body)
		})
	}
}

func TestWhatAMailServerSaysDecidesWhatFollows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]string
		code    errs.Code
	}{
		"a bad password":       {map[string]string{"AUTH": "535 who are you"}, notification.CodeChannelAuth},
		"an unknown receiver":  {map[string]string{"RCPT": "550 no such user"}, notification.CodeChannelRefused},
		"a greylist":           {map[string]string{"RCPT": "451 try later"}, notification.CodeChannelUnreachable},
		"no TLS after all":     {map[string]string{"STARTTLS": "454 not now"}, notification.CodeChannelUnreachable},
		"a server without TLS": {map[string]string{"EHLO": "250 hello"}, notification.CodeChannelUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newPostOffice(t, func(o *postOffice) { o.login, o.answers = "PLAIN", c.answers })
			courier := New(netguard.Policy{})
			ch := channelOf(t, courier, "smtp", o.config(map[string]any{"username": "u", "password": "p4ss"}))
			err := courier.Send(t.Context(), ch, nasty(), deliveryID)
			require.Equal(t, c.code, errs.CodeOf(err), "%v", err)
			require.NotContains(t, errs.Message(err), "p4ss")
		})
	}
}

func TestAPasswordDoesNotTravelUnprotected(t *testing.T) {
	t.Parallel()
	l := &login{user: "u", password: "p4ss", protected: isLoopback("mail.example.com")}
	_, _, err := l.Start(&smtp.ServerInfo{Name: "mail.example.com", Auth: []string{"PLAIN"}})
	require.Equal(t, notification.CodeChannelAuth, errs.CodeOf(err))
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		require.True(t, isLoopback(host), host)
	}
	certificateless := New(netguard.Policy{})
	o := newPostOffice(t)
	config := o.config(nil)
	delete(config, "ca_certificate")
	err = certificateless.Send(t.Context(), channelOf(t, certificateless, "smtp", config), nasty(), deliveryID)
	require.Equal(t, notification.CodeChannelUnreachable, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "certificate")
}
