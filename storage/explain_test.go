package storage_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

func TestEveryErrorOfADriverIsExplained(t *testing.T) {
	secret := "AKIASECRET"
	for _, c := range []struct {
		err  error
		kind errs.Kind
		code errs.Code
		says string
	}{
		{storage.ErrPermission, errs.Unavailable, errs.CodeStorageAuth, "credentials"},
		{storage.ErrFull, errs.Unavailable, errs.CodeStorageFull, "full"},
		{storage.ErrNoBucket, errs.Invalid, errs.CodeInvalidStorage, "does not exist"},
		{storage.ErrConfig, errs.Invalid, errs.CodeInvalidStorage, "configuration"},
		{storage.ErrClockSkew, errs.Unavailable, errs.CodeStorageUnavailable, "clock"},
		{storage.ErrNotExist, errs.NotFound, errs.CodeNotFound, "no such object"},
		{storage.ErrExist, errs.Exists, errs.CodeConflict, "already"},
		{storage.ErrBadKey, errs.Invalid, errs.CodeInvalidArgument, "name"},
		{storage.ErrChecksum, errs.Unavailable, errs.CodeStorageUnavailable, "other bytes"},
		{netguard.ErrBlocked, errs.Invalid, errs.CodeInvalidStorage, "metadata"},
		{context.Canceled, errs.Cancelled, errs.CodeCancelled, "cancelled"},
		{context.DeadlineExceeded, errs.Unavailable, errs.CodeStorageUnavailable, "in time"},
		{os.ErrDeadlineExceeded, errs.Unavailable, errs.CodeStorageUnavailable, "in time"},
		{syscall.ECONNREFUSED, errs.Unavailable, errs.CodeStorageUnavailable, "refused"},
		{syscall.ECONNRESET, errs.Unavailable, errs.CodeStorageUnavailable, "broke off"},
		{&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}, errs.Invalid, errs.CodeInvalidStorage, "host name"},
		{x509.UnknownAuthorityError{}, errs.Invalid, errs.CodeInvalidStorage, "certificate"},
		{tls.RecordHeaderError{}, errs.Invalid, errs.CodeInvalidStorage, "TLS"},
		{errors.New("anything"), errs.Unavailable, errs.CodeStorageUnavailable, "failed"},
	} {
		err := fmt.Errorf("%s: %w", secret, c.err)
		e := storage.Explain(err)
		require.Equal(t, c.kind, e.Kind, "%v", c.err)
		require.Equal(t, c.code, e.Code, "%v", c.err)
		require.Contains(t, e.Msg, c.says)
		require.NotContains(t, e.Msg, secret)
		require.ErrorIs(t, e, err)
	}
	require.Nil(t, storage.Explain(nil))
	typed := errs.New(errs.Invalid, errs.CodeSpoolFull, "typed")
	require.Same(t, typed, storage.Explain(fmt.Errorf("around: %w", typed)))
}

func TestRealConnectionErrorsAreExplained(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for url, says := range map[string]string{
		secure.URL: "certificate",
		"https://" + plain.Listener.Addr().String(): "does not speak TLS",
		"http://127.0.0.1:1":                        "refused",
	} {
		_, err := http.Get(url) //nolint:bodyclose,noctx // there is no response
		require.Error(t, err)
		require.Contains(t, storage.Explain(err).Msg, says, "%v", err)
	}
}
