package courier

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"time"
)

// asianChats answer 200 whatever happened: the code in the body tells.
func asianChats() []receiver {
	return []receiver{
		{of("lark", "Lark and Feishu", familyChat, secretURL("webhook of the custom bot"), secret("secret", "signing secret of the bot, if it asks for one")), sendLark},
		{of("dingtalk", "DingTalk", familyChat, secretURL("webhook of the custom robot"), secret("secret", "signing secret of the robot, if it asks for one")), sendDingTalk},
		{of("wecom", "WeCom", familyChat, secretURL("webhook of the group robot")), sendWeCom},
	}
}

// sendLark sends a card whose texts are plain: tags in a text message would call
// people.
func sendLark(ctx context.Context, s *session) error {
	n := s.note
	plain := func(text string) object { return object{"tag": "plain_text", "content": text} }
	body := object{"msg_type": "interactive", "card": object{
		"header":   object{"title": plain(n.title(200)), "template": rank(n, "blue", "orange", "red")},
		"elements": []object{{"tag": "div", "text": plain(n.body(4000))}},
	}}
	if key := s.text("secret"); key != "" {
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		mac := hmac.New(sha256.New, []byte(stamp+"\n"+key)) // of nothing, keyed by both
		body["timestamp"], body["sign"] = stamp, base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return s.post(ctx, s.text("url"), body, unless("code", "0", "msg"))
}

func sendDingTalk(ctx context.Context, s *session) error {
	address, err := url.Parse(s.text("url"))
	if err != nil {
		return unreachable(err)
	}
	if key := s.text("secret"); key != "" {
		stamp := strconv.FormatInt(time.Now().UnixMilli(), 10)
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(stamp + "\n" + key))
		query := address.Query()
		query.Set("timestamp", stamp)
		query.Set("sign", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		address.RawQuery = query.Encode()
	}
	return s.post(ctx, address.String(), object{"msgtype": "text", "text": object{"content": quiet(s.note.whole(4000))}}, unless("errcode", "0", "errmsg"))
}

func sendWeCom(ctx context.Context, s *session) error {
	return s.post(ctx, s.text("url"), object{"msgtype": "text", "text": object{"content": s.note.whole(600)}}, unless("errcode", "0", "errmsg"))
}
