package courier

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// Headers of a webhook.
const (
	headerDelivery  = "X-DataGuardian-Delivery"
	headerEvent     = "X-DataGuardian-Event"
	headerTimestamp = "X-DataGuardian-Timestamp"
	headerSignature = "X-DataGuardian-Signature"
)

func hooks() []receiver {
	return []receiver{
		{of("webhook", "Any program", familyHook,
			placed(secretURL("where to POST the notification as JSON")),
			secret("secret", "signs every message (HMAC-SHA256)"),
			secret("authorization", "value of the Authorization header, such as Bearer TOKEN"),
			ca()), sendWebhook},
		{of("ifttt", "IFTTT", familyHook,
			required(secret("key", "key of the Webhooks service")),
			required(text("event", "name of the event"))), sendIFTTT},
		{of("alertmanager", "Prometheus Alertmanager", familyHook,
			server("", "address of the Alertmanager"),
			secret("authorization", "value of the Authorization header"),
			ca()), sendAlertmanager},
	}
}

// message is the JSON body of a webhook.
type message struct {
	ID             string         `json:"id"` // of the delivery
	NotificationID string         `json:"notification_id"`
	Channel        channel        `json:"channel"`
	Type           string         `json:"type"`
	Severity       string         `json:"severity"`
	EntityType     string         `json:"entity_type"`
	EntityID       *string        `json:"entity_id"`
	Title          string         `json:"title"`
	Message        string         `json:"message"`
	Metadata       map[string]any `json:"metadata"`
	CreatedAt      time.Time      `json:"created_at"`
}

type channel struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (s *session) message() message {
	n := s.note
	m := message{
		ID: s.deliveryID, NotificationID: n.ID, Channel: channel{s.channel.ID, s.channel.Name}, Type: string(n.Type), Severity: string(n.Severity),
		EntityType: string(n.EntityType), Title: n.Title, Message: n.Message, Metadata: n.Metadata, CreatedAt: n.CreatedAt.UTC(),
	}
	if n.EntityID != "" {
		m.EntityID = &n.EntityID
	}
	return m
}

func sendWebhook(ctx context.Context, s *session) error {
	body, err := json.Marshal(s.message())
	if err != nil {
		return err
	}
	r := request{url: s.text("url"), body: body, header: map[string]string{headerDelivery: s.deliveryID, headerEvent: string(s.note.Type)}}
	if key := s.text("secret"); key != "" {
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		r.header[headerTimestamp] = stamp
		r.header[headerSignature] = "sha256=" + Sign(key, stamp, body)
	}
	if value := s.text("authorization"); value != "" {
		r.header["Authorization"] = value
	}
	return s.do(ctx, r)
}

// Sign returns the signature of a webhook in hexadecimal: HMAC-SHA256 with the
// channel's secret over the timestamp, a dot, and the body as it was sent.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
