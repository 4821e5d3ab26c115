package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
)

// Explain turns a driver's error into one a person can act on. An error that
// is typed already is returned as it is, nil for nil. The sentence holds no
// text of the store's own, which might hold secrets; it is kept as the cause.
func Explain(err error) *errs.Error {
	if err == nil {
		return nil
	}
	if e := errs.As(err); e != nil {
		return e
	}
	for _, m := range meanings {
		if errors.Is(err, m.target) {
			return errs.Wrap(err, m.kind, m.code, "%s", m.sentence)
		}
	}
	if sentence := certificate(err); sentence != "" {
		return errs.Wrap(err, errs.Invalid, errs.CodeInvalidStorage, "%s", sentence)
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeStorageUnavailable, "%s", connection(err))
}

type meaning struct {
	target   error
	kind     errs.Kind
	code     errs.Code
	sentence string
}

var meanings = [...]meaning{
	{
		netguard.ErrBlocked, errs.Invalid, errs.CodeInvalidStorage,
		"the endpoint leads to a link-local or metadata address, which is not allowed; use the storage's own address",
	},
	{
		ErrConfig, errs.Invalid, errs.CodeInvalidStorage,
		"the storage's configuration is not acceptable; check its path or endpoint, bucket, region and credentials",
	},
	{
		ErrNoBucket, errs.Invalid, errs.CodeInvalidStorage,
		"the bucket or directory does not exist; create it, or correct its name, region or endpoint",
	},
	{
		ErrPermission, errs.Unavailable, errs.CodeStorageAuth,
		"the storage refused the credentials or a permission; check the credentials, and that they may read, write, list and delete there",
	},
	{
		ErrFull, errs.Unavailable, errs.CodeStorageFull,
		"the storage is full, so nothing more can be stored; free some space, raise its limit, or keep fewer backups",
	},
	{
		ErrClockSkew, errs.Unavailable, errs.CodeStorageUnavailable,
		"the clocks of this machine and of the storage differ too much, so the storage refuses every request; set this machine's clock (NTP) and try again",
	},
	{
		ErrNotExist, errs.NotFound, errs.CodeNotFound,
		"there is no such object in the storage; it may have been deleted by someone else",
	},
	{
		ErrExist, errs.Exists, errs.CodeConflict,
		"the storage already has an object of this name, and it was not replaced; delete it first, or use another name",
	},
	{
		ErrBadKey, errs.Invalid, errs.CodeInvalidArgument,
		"this name cannot be used in the storage; use a relative path without empty parts, \"..\", backslashes, control characters or links",
	},
	{
		ErrChecksum, errs.Unavailable, errs.CodeStorageUnavailable,
		"the storage received other bytes than were sent, so they were thrown away; try again; if it happens often, check the network and the disks",
	},
	{
		context.Canceled, errs.Cancelled, errs.CodeCancelled,
		"the request to the storage was cancelled",
	},
}

func certificate(err error) string {
	var (
		authority  x509.UnknownAuthorityError
		host       x509.HostnameError
		invalid    x509.CertificateInvalidError
		verifying  *tls.CertificateVerificationError
		notTLS     tls.RecordHeaderError
		noSuchHost *net.DNSError
	)
	switch {
	case errors.As(err, &notTLS), errors.Is(err, http.ErrSchemeMismatch):
		return "the server at the endpoint does not speak TLS; use http:// (without TLS) or the port that has TLS"
	case errors.As(err, &authority), errors.As(err, &invalid), errors.As(err, &host), errors.As(err, &verifying):
		return "the certificate of the storage's endpoint is not trusted: it is expired, for another name, or from an unknown authority; fix the certificate or add its authority to this machine's trust store"
	case errors.As(err, &noSuchHost) && noSuchHost.IsNotFound:
		return "the host name of the storage's endpoint does not exist; check the endpoint, and with path-style buckets the path-style setting"
	}
	return ""
}

func connection(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing answers at the storage's endpoint: the connection was refused; check that the storage runs, and its host and port"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "the storage did not answer in time; check the network between this machine and the storage, and try again"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the connection to the storage broke off; try again; if it stays so, check the network, proxies and the storage's own log"
	}
	return "the storage failed or could not be reached; try again later; the server's log has the details"
}
