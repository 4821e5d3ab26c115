package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Address is host:port, for messages.
func Address(c Conn) string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) }

// DialProblem says in a few words why a server could not be reached. Unlike
// the error's own text it holds nothing but that.
func DialProblem(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "its host name is unknown"
	case errors.As(err, &dns):
		return "its host name could not be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to it"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "there is no socket"
	case errors.Is(err, os.ErrPermission):
		return "the socket may not be used"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "timed out"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	}
	return "it does not speak the protocol, or hung up"
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// SystemRoots are the files in which systems keep the roots they trust.
func SystemRoots() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
}
