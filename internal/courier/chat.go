package courier

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func chats() []receiver {
	return []receiver{
		{of("slack", "Slack", familyChat, secretURL("incoming webhook of the app")), sendSlack},
		{of("discord", "Discord", familyChat, secretURL("webhook of the channel (Edit Channel, Integrations)")), sendDiscord},
		{of("teams", "Microsoft Teams", familyChat, secretURL("address of a workflow that posts to a channel when a webhook request is received")), sendTeams},
		{of("mattermost", "Mattermost", familyChat, secretURL("incoming webhook"), text("channel", "another channel than the webhook's"), ca()), sendMattermost},
		{of("rocketchat", "Rocket.Chat", familyChat, secretURL("incoming webhook integration"), text("channel", "another channel than the webhook's"), ca()), sendRocketChat},
		{of("googlechat", "Google Chat", familyChat, secretURL("webhook of the space")), sendGoogleChat},
		{of("telegram", "Telegram", familyChat,
			required(secret("bot_token", "token of the bot, from BotFather")),
			required(text("chat_id", "id of the chat, or @name of the channel")),
			text("thread_id", "id of a topic in the chat"),
			server("https://api.telegram.org", "address of the Bot API")), sendTelegram},
		{of("matrix", "Matrix", familyChat,
			server("", "address of the homeserver"),
			required(secret("access_token", "access token of the user that posts")),
			required(text("room_id", "id of the room, such as !abc:example.org")), ca()), sendMatrix},
		{of("zulip", "Zulip", familyChat,
			server("", "address of the organization"),
			required(text("email", "e-mail address of the bot")),
			required(secret("api_key", "API key of the bot")),
			required(text("stream", "channel to post to")),
			withDefault(text("topic", "topic to post to"), "DataGuardian"), ca()), sendZulip},
		{of("webex", "Webex", familyChat,
			required(secret("token", "token of the bot")),
			required(text("room_id", "id of the space"))), sendWebex},
	}
}

type object = map[string]any

func sendSlack(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, s.text("url"), object{
		"text": escapeMarkup.Replace(n.label() + " " + n.title(200)),
		"attachments": []object{{
			"color": fmt.Sprintf("#%06x", n.colour()), "text": escapeMarkup.Replace(n.body(3000)), "mrkdwn_in": []string{},
			"footer": escapeMarkup.Replace(oneLine(string(n.Type))), "ts": n.CreatedAt.Unix(),
		}},
	})
}

func sendDiscord(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, s.text("url"), object{
		"username": "DataGuardian",
		"embeds": []object{{
			"title": escapeMarkdown.Replace(n.title(120)), "description": escapeMarkdown.Replace(n.body(1800)), "color": n.colour(),
			"timestamp": n.CreatedAt.UTC().Format("2006-01-02T15:04:05Z"), "footer": object{"text": string(n.Type)},
		}},
		"allowed_mentions": object{"parse": []string{}},
	})
}

func sendTeams(ctx context.Context, s *session) error {
	n := s.note
	block := func(text string, more object) object {
		b := object{"type": "TextBlock", "text": escapeMarkdown.Replace(text), "wrap": true}
		for key, value := range more {
			b[key] = value
		}
		return b
	}
	return s.post(ctx, s.text("url"), object{
		"type": "message",
		"attachments": []object{{
			"contentType": "application/vnd.microsoft.card.adaptive",
			"content": object{
				"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
				"body": []object{
					block(n.label()+" "+n.title(200), object{"weight": "Bolder", "size": "Medium", "color": rank(n, "Accent", "Warning", "Attention")}),
					block(n.body(4000), nil),
				},
			},
		}},
	})
}

func sendMattermost(ctx context.Context, s *session) error {
	n := s.note
	body := object{"username": "DataGuardian", "attachments": []object{{
		"fallback": quiet(n.whole(500)), "color": fmt.Sprintf("#%06x", n.colour()),
		"title": quiet(n.title(200)), "text": quiet(escapeMarkdown.Replace(n.body(4000))),
	}}}
	if channel := s.text("channel"); channel != "" {
		body["channel"] = channel
	}
	return s.post(ctx, s.text("url"), body)
}

func sendRocketChat(ctx context.Context, s *session) error {
	n := s.note
	body := object{"text": quiet(n.label() + " " + n.title(200)), "attachments": []object{{
		"color": fmt.Sprintf("#%06x", n.colour()), "text": quiet(escapeMarkdown.Replace(n.body(4000))),
	}}}
	if channel := s.text("channel"); channel != "" {
		body["channel"] = channel
	}
	return s.post(ctx, s.text("url"), body, unless("success", "true", "error"))
}

func sendGoogleChat(ctx context.Context, s *session) error {
	n := s.note
	return s.post(ctx, s.text("url"), object{"cardsV2": []object{{
		"cardId": s.deliveryID,
		"card": object{
			"header":   object{"title": n.title(200), "subtitle": n.label() + " " + string(n.Type)},
			"sections": []object{{"widgets": []object{{"textParagraph": object{"text": escapeMarkup.Replace(n.body(4000))}}}}},
		},
	}}})
}

// sendTelegram asks for no parse mode: the text is shown as it is.
func sendTelegram(ctx context.Context, s *session) error {
	body := object{
		"chat_id": s.text("chat_id"), "text": s.note.whole(4000),
		"link_preview_options": object{"is_disabled": true},
		"disable_notification": rank(s.note, true, false, false),
	}
	if thread := s.text("thread_id"); thread != "" {
		id, err := strconv.ParseInt(thread, 10, 64)
		if err != nil {
			return errs.Wrap(err, errs.Invalid, notification.CodeInvalidChannel, "thread_id is not a number; set it again")
		}
		body["message_thread_id"] = id
	}
	return s.post(ctx, s.base()+"/bot"+url.PathEscape(s.text("bot_token"))+"/sendMessage", body, unless("ok", "true", "description"))
}

// sendMatrix names the message by the delivery: a homeserver takes it once.
func sendMatrix(ctx context.Context, s *session) error {
	address := s.base() + "/_matrix/client/v3/rooms/" + url.PathEscape(s.text("room_id")) + "/send/m.room.message/" + url.PathEscape(s.deliveryID)
	return s.post(ctx, address, object{"msgtype": rank(s.note, "m.notice", "m.text", "m.text"), "body": s.note.whole(8000), "m.mentions": object{}},
		put, header("Authorization", "Bearer "+s.text("access_token")))
}

func sendZulip(ctx context.Context, s *session) error {
	n := s.note
	return s.postForm(ctx, s.base()+"/api/v1/messages", url.Values{
		"type": {"stream"}, "to": {s.text("stream")}, "topic": {clip(s.text("topic"), 60)},
		"content": {"**" + quiet(n.label()+" "+strings.ReplaceAll(n.title(200), "*", "")) + "**\n" + quiet(escapeMarkdown.Replace(n.body(8000)))},
	}, basic(s.text("email"), s.text("api_key")))
}

func sendWebex(ctx context.Context, s *session) error {
	return s.post(ctx, "https://webexapis.com/v1/messages", object{"roomId": s.text("room_id"), "text": s.note.whole(7000)},
		header("Authorization", "Bearer "+s.text("token")))
}
