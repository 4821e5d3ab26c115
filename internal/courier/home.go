package courier

import (
	"context"
	"encoding/base64"
	"net/url"
)

func homes() []receiver {
	return []receiver{
		{of("homeassistant", "Home Assistant", familyHome,
			server("", "address of Home Assistant"),
			required(secret("token", "long-lived access token")),
			withDefault(text("service", "notify service, such as mobile_app_phone"), "notify"), ca()), sendHomeAssistant},
	}
}

func sendHomeAssistant(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, s.base()+"/api/services/notify/"+url.PathEscape(s.text("service")),
		object{"title": n.title(200), "message": n.body(4000)}, header("Authorization", "Bearer "+s.text("token")))
}

func sendIFTTT(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, "https://maker.ifttt.com/trigger/"+url.PathEscape(s.text("event"))+"/with/key/"+url.PathEscape(s.text("key")),
		object{"value1": n.title(200), "value2": n.body(4000), "value3": string(n.Severity)})
}

// basic logs in with a name and a password.
func basic(user, password string) func(*request) {
	return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}
