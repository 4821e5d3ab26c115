package courier

import (
	"context"
	"net/url"
	"strconv"
	"strings"
)

func pushes() []receiver {
	return []receiver{
		{of("gotify", "Gotify", familyPush,
			server("", "address of the server"),
			required(secret("token", "token of the application")), ca()), sendGotify},
		{of("ntfy", "ntfy", familyPush,
			server("https://ntfy.sh", "address of the server"),
			required(secret("topic", "topic; on a public server whoever knows it may read")),
			secret("token", "access token, if the topic is protected"), ca()), sendNtfy},
		{of("pushover", "Pushover", familyPush,
			required(secret("token", "API token of the application")),
			required(secret("user_key", "key of the user or group")),
			text("device", "only this device")), sendPushover},
		{of("pushbullet", "Pushbullet", familyPush,
			required(secret("token", "access token")),
			text("device", "iden of the only device"),
			text("channel", "tag of a channel to publish to")), sendPushbullet},
		{of("bark", "Bark", familyPush,
			server("https://api.day.app", "address of the server"),
			required(secret("device_key", "key of the device")), ca()), sendBark},
		{of("signal", "Signal", familyPush,
			server("", "address of a signal-cli-rest-api"),
			required(text("number", "registered number that sends, such as +4915112345678")),
			required(text("recipients", "numbers or group ids, separated by commas")),
			secret("authorization", "value of the Authorization header, if a proxy asks for one"), ca()), sendSignal},
		{of("twilio", "SMS through Twilio", familyPush,
			required(text("account_sid", "SID of the account")),
			required(secret("auth_token", "its token")),
			required(text("from", "number that sends")),
			required(text("to", "number that receives"))), sendTwilio},
	}
}

func sendGotify(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, s.base()+"/message", object{"title": n.title(200), "message": n.body(4000), "priority": rank(n, 3, 5, 8)},
		header("X-Gotify-Key", s.text("token")))
}

// sendNtfy posts to the root, as JSON: headers would have to carry the title.
func sendNtfy(ctx context.Context, s *session) error {
	n := s.note
	var more []func(*request)
	if token := s.text("token"); token != "" {
		more = append(more, header("Authorization", "Bearer "+token))
	}
	return s.post(ctx, s.base()+"/", object{
		"topic": s.text("topic"), "title": n.title(200), "message": n.body(3500), "priority": rank(n, 3, 4, 5), "tags": []string{string(n.Type)},
	}, more...)
}

func sendPushover(ctx context.Context, s *session) error {
	n := s.note
	values := url.Values{
		"token": {s.text("token")}, "user": {s.text("user_key")}, "title": {n.title(200)}, "message": {n.body(1000)},
		"priority": {strconv.Itoa(rank(n, -1, 0, 1))}, "timestamp": {strconv.FormatInt(n.CreatedAt.Unix(), 10)},
	}
	if device := s.text("device"); device != "" {
		values.Set("device", device)
	}
	return s.postForm(ctx, "https://api.pushover.net/1/messages.json", values, unless("status", "1", "errors"))
}

func sendPushbullet(ctx context.Context, s *session) error {
	n := s.note
	body := object{"type": "note", "title": n.title(200), "body": n.body(4000), "guid": s.deliveryID}
	if device := s.text("device"); device != "" {
		body["device_iden"] = device
	}
	if channel := s.text("channel"); channel != "" {
		body["channel_tag"] = channel
	}
	return s.post(ctx, "https://api.pushbullet.com/v2/pushes", body, header("Access-Token", s.text("token")))
}

func sendBark(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, s.base()+"/push", object{
		"device_key": s.text("device_key"), "title": n.title(200), "body": n.body(3000), "group": "DataGuardian",
		"level": rank(n, "passive", "active", "timeSensitive"),
	}, unless("code", "200", "message"))
}

func sendSignal(ctx context.Context, s *session) error {
	var more []func(*request)
	if value := s.text("authorization"); value != "" {
		more = append(more, header("Authorization", value))
	}
	return s.post(ctx, s.base()+"/v2/send", object{
		"number": s.text("number"), "recipients": s.recipients(), "message": s.note.whole(2000),
	}, more...)
}

func sendTwilio(ctx context.Context, s *session) error {
	account := s.text("account_sid")
	return s.postForm(ctx, "https://api.twilio.com/2010-04-01/Accounts/"+url.PathEscape(account)+"/Messages.json", url.Values{
		"From": {s.text("from")}, "To": {s.text("to")}, "Body": {strings.ReplaceAll(s.note.whole(600), "\n", " ")},
	}, basic(account, s.text("auth_token")))
}
