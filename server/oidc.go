package server

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/gateway"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// OIDC logs people in with an OpenID provider.
type OIDC interface {
	// Begin returns where to send the browser, and what to keep in it until it is back.
	Begin(ctx context.Context, address string) (location, state string, err error)
	// Finish begins the session of who comes back with what was kept and the provider's
	// answer. A user that comes with an error has a name only, for the audit log.
	Finish(ctx context.Context, state string, answer url.Values, address string) (auth.User, string, error)
}

const (
	// stateCookie keeps a login that is under way. It must come along when the provider
	// sends the browser back, which a strict cookie would not.
	stateCookie = "dg_oidc"
	statePath   = "/api/auth/oidc"
	stateAge    = 600 // seconds
)

// welcome leads on from this site: the session's strict cookie does not come along
// while the browser still follows the provider.
const welcome = `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>DataGuardian</title><p>You are logged in. <a href="/">Go on</a></p></html>
`

func (c Config) oidcLogin(w http.ResponseWriter, r *http.Request) {
	location, state, err := c.OIDC.Begin(r.Context(), arrivalOf(r).address)
	if err != nil {
		gateway.WriteError(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: stateCookie, Value: state, Path: statePath, MaxAge: stateAge, HttpOnly: true, Secure: arrivalOf(r).secure, SameSite: http.SameSiteLaxMode}) //nolint:gosec // Secure follows the connection: sessions work over plain loopback too
	http.Redirect(w, r, location, http.StatusFound)
}

func (c Config) oidcCallback(w http.ResponseWriter, r *http.Request) {
	from := arrivalOf(r)
	kept, err := r.Cookie(stateCookie)
	var u auth.User
	var session string
	if err != nil {
		err = errs.New(errs.Malformed, errs.CodeInvalidArgument, "this browser has not begun to log in; start at /api/auth/oidc/login")
	} else {
		u, session, err = c.OIDC.Finish(r.Context(), kept.Value, r.URL.Query(), from.address)
	}
	id := r.Header.Get(gateway.RequestIDHeader)
	if err != nil { // the browser is not told why, but whoever sets the provider up has to know
		c.Logger.InfoContext(r.Context(), "a login with the OpenID provider failed", "request_id", id, "error", err)
	}
	note(r.Context(), c.Trail, audit.Entry{
		ID: uuid.NewString(), Actor: u.Username, Action: "session.login", EntityType: "session", Address: from.address, RequestID: id,
		Metadata: map[string]any{"actor_kind": "user", "method": "oidc"},
	}, err)
	http.SetCookie(w, &http.Cookie{Name: stateCookie, Path: statePath, MaxAge: -1, HttpOnly: true, Secure: from.secure, SameSite: http.SameSiteLaxMode}) //nolint:gosec // Secure follows the connection: sessions work over plain loopback too
	if err != nil {
		gateway.WriteError(w, err)
		return
	}
	http.SetCookie(w, rpc.NewSessionCookie(session, from.secure))
	content("text/html; charset=utf-8", []byte(welcome)).ServeHTTP(w, r)
}
