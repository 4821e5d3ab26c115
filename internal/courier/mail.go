package courier

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/notification"
)

// Ways to protect a connection to a mail server.
const (
	tlsImplicit = "tls"
	tlsStart    = "starttls"
	tlsNone     = "none"
)

func mails() []receiver {
	address := func(name string, kind notification.FieldKind, help string) notification.Field {
		return notification.Field{Name: name, Kind: kind, Required: true, Help: help}
	}
	return []receiver{{of("smtp", "E-mail", familyMail,
		notification.Field{Name: "host", Kind: notification.HostField, Required: true, Place: true, Help: "mail server"},
		notification.Field{Name: "port", Kind: notification.NumberField, Place: true, Default: "587, or 465 with tls", Help: "its port"},
		notification.Field{Name: "tls", Kind: notification.ChoiceField, Place: true, Default: tlsStart, Choices: []string{tlsStart, tlsImplicit, tlsNone},
			Help: "starttls, tls from the first byte, or none inside of a safe network"},
		text("username", "user of the mail server; none without a login"),
		secret("password", "its password"),
		address("from", notification.EmailField, "sender"),
		address("to", notification.EmailsField, "receivers, separated by commas"),
		ca()), sendMail}}
}

func sendMail(ctx context.Context, s *session) (err error) {
	host, mode := s.text("host"), s.text("tls")
	port := s.port()
	if port == 0 {
		port = 587
		if mode == tlsImplicit {
			port = 465
		}
	}
	line, err := s.dialer().DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return unreachable(err)
	}
	defer func() { _ = line.Close() }()                                         // after Quit it is closed already
	defer context.AfterFunc(ctx, func() { _ = line.SetDeadline(time.Now()) })() // it only ends what is cancelled
	conn := line
	if mode == tlsImplicit {
		conn = tls.Client(line, s.trust(host))
	}
	client, err := smtp.NewClient(conn, host)
	if err == nil {
		err = s.mail(client, host, mode)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return mailFailure(err)
}

func (s *session) mail(client *smtp.Client, host, mode string) error {
	if err := client.Hello(helloName()); err != nil {
		return err
	}
	if mode == tlsStart {
		if ok, _ := client.Extension("STARTTLS"); !ok {
			return errs.New(errs.Unavailable, notification.CodeChannelUnreachable,
				"the mail server offers no STARTTLS; set tls to tls or, inside of a safe network, to none")
		}
		if err := client.StartTLS(s.trust(host)); err != nil {
			return err
		}
	}
	if user := s.text("username"); user != "" {
		if err := client.Auth(&login{user: user, password: s.text("password"), protected: mode != tlsNone || isLoopback(host)}); err != nil {
			return err
		}
	}
	from, err := mail.ParseAddress(s.text("from"))
	if err != nil {
		return err
	}
	to, err := mail.ParseAddressList(s.text("to"))
	if err != nil {
		return err
	}
	if err := client.Mail(from.Address); err != nil {
		return err
	}
	for _, receiver := range to {
		if err := client.Rcpt(receiver.Address); err != nil {
			return err
		}
	}
	letter, err := s.letter(from, to)
	if err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(letter); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // the server has taken the letter: nothing after it can lose it
	return nil
}

func helloName() string { return "dataguardian.localhost" }

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// letter is the message in the form of RFC 5322.
func (s *session) letter(from *mail.Address, to []*mail.Address) ([]byte, error) {
	var receivers []string
	for _, receiver := range to {
		receivers = append(receivers, receiver.String())
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	var letter bytes.Buffer
	for _, line := range [][2]string{
		{"From", from.String()},
		{"To", strings.Join(receivers, ",\r\n ")},
		{"Subject", mime.QEncoding.Encode("utf-8", s.note.label()+" "+s.note.title(200))},
		{"Date", s.note.CreatedAt.UTC().Format(time.RFC1123Z)},
		{"Message-ID", "<" + s.deliveryID + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&letter, "%s: %s\r\n", line[0], line[1])
	}
	letter.WriteString("\r\n")
	body := quotedprintable.NewWriter(&letter)
	text := s.note.body(20_000) + "\n\n" + s.footer()
	if _, err := body.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		return nil, err
	}
	return letter.Bytes(), body.Close()
}

// footer says what the notification is about, for people who search.
func (s *session) footer() string {
	n := s.note
	about := string(n.EntityType)
	if n.EntityID != "" {
		about += " " + n.EntityID
	}
	return fmt.Sprintf("Type: %s\nSeverity: %s\nAbout: %s\nTime: %s\n", n.Type, n.Severity, about, n.CreatedAt.UTC().Format(time.RFC3339))
}

// login logs in with PLAIN, or with LOGIN where the server knows only that. Over a
// connection that others can read it sends nothing.
type login struct {
	user, password string
	protected      bool
}

// Start implements smtp.Auth.
func (l *login) Start(server *smtp.ServerInfo) (proto string, toServer []byte, err error) {
	if !server.TLS && !l.protected {
		return "", nil, errs.New(errs.Denied, notification.CodeChannelAuth,
			"the password would travel unprotected; set tls to starttls or tls, or remove the username")
	}
	for _, mechanism := range server.Auth {
		if strings.EqualFold(mechanism, "PLAIN") {
			return "PLAIN", []byte("\x00" + l.user + "\x00" + l.password), nil
		}
	}
	return "LOGIN", nil, nil
}

// Next implements smtp.Auth.
func (l *login) Next(fromServer []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	asked := strings.ToLower(strings.TrimSpace(string(fromServer)))
	switch {
	case strings.HasPrefix(asked, "user"):
		return []byte(l.user), nil
	case strings.HasPrefix(asked, "pass"):
		return []byte(l.password), nil
	}
	return nil, errs.New(errs.Unavailable, notification.CodeChannelAuth,
		"the mail server asks for %s, which is not known here", base64.StdEncoding.EncodeToString(fromServer))
}

// mailFailure says what an answer of the mail server means.
func mailFailure(err error) error {
	if err == nil || errs.As(err) != nil {
		return err
	}
	answer, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return unreachable(err)
	}
	said := fmt.Sprintf("%d %s", answer.Code, quote([]byte(answer.Msg)))
	switch {
	case answer.Code == 530 || answer.Code == 534 || answer.Code == 535 || answer.Code == 538:
		return errs.Wrap(err, errs.Denied, notification.CodeChannelAuth, "the mail server does not accept the login: %s", said)
	case answer.Code >= 500:
		return errs.Wrap(err, errs.Invalid, notification.CodeChannelRefused, "the mail server refused the letter: %s", said)
	}
	return errs.Wrap(err, errs.Unavailable, notification.CodeChannelUnreachable, "the mail server asks to try later: %s", said)
}
