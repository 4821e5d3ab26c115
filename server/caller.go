package server

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// The REST side tells the gRPC server of its caller in these headers. A client that
// sends them itself gains nothing: they are replaced on the REST side, and count
// only when they come through the pipe.
const (
	headerAddress     = "X-Dataguardian-Address"
	headerSecure      = "X-Dataguardian-Secure"
	headerCertificate = "X-Dataguardian-Certificate"
)

// introduced adds what the gRPC server must know of the caller of a request.
func introduced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, header := range []string{headerAddress, headerSecure, headerCertificate} {
			r.Header.Del(header)
		}
		from := arrivalOf(r)
		r.Header.Set(headerAddress, from.address)
		if from.secure {
			r.Header.Set(headerSecure, "true")
		}
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			r.Header.Set(headerCertificate, r.TLS.VerifiedChains[0][0].Subject.CommonName)
		}
		next.ServeHTTP(w, r)
	})
}

// credential is what a caller shows of itself: a bearer token, else the cookie of
// a session, else its certificate.
type credential struct {
	bearer      string // of a token or session
	certificate string // a verified common name
}

// cameFrom notes where a call came from.
func (c *call) cameFrom(p *peer.Peer, md metadata.MD) {
	if c.local {
		c.origin.Address, c.origin.Secure = first(md, strings.ToLower(headerAddress)), first(md, strings.ToLower(headerSecure)) == "true"
		c.shown.certificate = first(md, strings.ToLower(headerCertificate))
		return
	}
	tls, encrypted := p.AuthInfo.(credentials.TLSInfo)
	from := c.guard.proxies.arrival(p.Addr.String(), md.Get, encrypted)
	c.origin.Address, c.origin.Secure = from.address, from.secure
	if encrypted {
		if chains := tls.State.VerifiedChains; len(chains) > 0 {
			c.shown.certificate = chains[0][0].Subject.CommonName
		}
	}
}

// credentialOf reads what a caller shows. An Authorization header of any kind is all
// that counts when there is one: requests that have it are not held against their
// origin, so it must not come with a cookie's authority.
func (c *call) credentialOf(md metadata.MD) credential {
	if values := md.Get("authorization"); len(values) > 0 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if len(values) > 1 || !strings.EqualFold(scheme, "bearer") {
			return credential{}
		}
		return credential{bearer: strings.TrimSpace(token)}
	}
	if c.local { // the REST side has refused requests from other origins
		if session := cookieOf(md); session != "" {
			return credential{bearer: session}
		}
	}
	return c.shown
}

func cookieOf(md metadata.MD) string {
	for _, line := range md.Get("cookie") {
		cookies, err := http.ParseCookie(line)
		if err != nil {
			continue
		}
		for _, cookie := range cookies {
			if cookie.Name == rpc.SessionCookie {
				return cookie.Value
			}
		}
	}
	return ""
}

// who returns the caller that a credential belongs to.
func (g *guard) who(ctx context.Context, shown credential) (auth.Principal, error) {
	switch {
	case shown.bearer != "":
		return g.authenticator.Authenticate(ctx, shown.bearer)
	case shown.certificate != "" && g.byCertificate:
		return g.authenticator.AuthenticateCertificate(ctx, shown.certificate)
	}
	return auth.Principal{}, auth.ErrUnauthenticated
}
