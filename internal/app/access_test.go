package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/oidc"
	"github.com/dataguardian/dataguardian/internal/secret"
)

// Each who comes back from the OpenID provider costs a call of it. However many come,
// only so many calls are made at once, and a place is free again after each.
func TestOnlySoManyComeBackFromTheProviderAtOnce(t *testing.T) {
	const strangers = 12
	here, goOn := make(chan struct{}, 3*strangers), make(chan struct{})
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write([]byte(`{"issuer":"` + s.URL + `","authorization_endpoint":"` + s.URL + `/auth","token_endpoint":"` + s.URL + `/token","jwks_uri":"` + s.URL + `/keys"}`))
		assert.NoError(t, err)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		here <- struct{}{}
		select {
		case <-goOn:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusBadRequest) // the code is none
	})
	box, err := secret.Create(filepath.Join(t.TempDir(), "key"))
	require.NoError(t, err)
	p := newProvider(oidc.Config{Issuer: s.URL, ClientID: "us", RedirectURL: "https://us.example/callback", Box: box}, auth.NewService(auth.Config{}))
	location, kept, err := p.Begin(t.Context(), "192.0.2.1")
	require.NoError(t, err)
	there, err := url.Parse(location)
	require.NoError(t, err)
	answer := url.Values{"state": {there.Query().Get("state")}, "code": {"none"}}
	ended := make(chan error, strangers)
	comeBack := func(from int) error {
		_, session, err := p.Finish(t.Context(), kept, answer, fmt.Sprint("198.51.100.", from))
		assert.Empty(t, session)
		return err
	}
	all := func() {
		for i := range strangers {
			go func() { ended <- comeBack(i) }()
		}
		for range strangers {
			wait(t, here)
		}
	}
	all()
	for range 3 {
		require.ErrorIs(t, comeBack(90), auth.ErrTooManyLogins, "at once, without asking the provider")
	}
	require.Empty(t, here)
	close(goOn)
	for range strangers {
		require.Equal(t, errs.Unauthenticated, errs.KindOf(wait(t, ended)))
	}
	all() // every place is free again
	for range strangers {
		require.Equal(t, errs.Unauthenticated, errs.KindOf(wait(t, ended)))
	}
	require.Equal(t, errs.Unauthenticated, errs.KindOf(comeBack(90)), "a refusal cost no try")
}

// wait returns what comes out of a channel.
func wait[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(time.Minute):
		require.FailNow(t, "nothing came")
	}
	return got
}
