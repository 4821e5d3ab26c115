package server

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/server/gateway"
)

// loginPath is where passwords are tried.
const loginPath = "/api/auth/login"

// door turns away who would be refused whatever the request says, before anything of it
// is read: a flood of logins costs little. The RPC refuses by itself, too; what comes
// through here is answered and written down as it would be there.
func (c Config) door(next http.Handler) http.Handler {
	if c.Services.Users == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != loginPath {
			next.ServeHTTP(w, r)
			return
		}
		from := arrivalOf(r).address
		err := c.Services.Users.TurnsAway(from)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		note(r.Context(), c.Trail, audit.Entry{
			ID: uuid.NewString(), Action: "session.login", EntityType: "session", Address: from, RequestID: r.Header.Get(gateway.RequestIDHeader),
			Metadata: map[string]any{},
		}, err)
		gateway.WriteError(w, err)
	})
}
