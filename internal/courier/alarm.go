package courier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"time"

	"github.com/dataguardian/dataguardian/internal/notification"
)

// alarms wake people. Events about one condition share an incident, and the event
// that ends the condition resolves it.
func alarms() []receiver {
	return []receiver{
		{of("pagerduty", "PagerDuty", familyAlarm,
			required(secret("routing_key", "integration key of the service (Events API v2)")),
			region()), sendPagerDuty},
		{of("opsgenie", "Opsgenie", familyAlarm,
			required(secret("api_key", "key of the API integration")),
			region()), sendOpsgenie},
		{of("splunkoncall", "Splunk On-Call", familyAlarm,
			secretURL("address of the REST endpoint, with its key and routing key")), sendSplunkOnCall},
	}
}

func sendPagerDuty(ctx context.Context, s *session) error {
	n := s.note
	host := "https://events.pagerduty.com"
	if s.text("region") == "eu" {
		host = "https://events.eu.pagerduty.com"
	}
	event := object{"routing_key": s.text("routing_key"), "event_action": "trigger", "dedup_key": dedup(n)}
	if _, ends := n.condition(); ends {
		event["event_action"] = "resolve"
		return s.post(ctx, host+"/v2/enqueue", event)
	}
	event["payload"] = object{
		"summary": clip(n.title(200)+": "+n.body(800), 1000), "source": "dataguardian", "severity": rank(n, "info", "warning", "critical"),
		"timestamp": n.CreatedAt.UTC().Format(time.RFC3339), "class": string(n.Type), "component": string(n.EntityType), "custom_details": n.Metadata,
	}
	return s.post(ctx, host+"/v2/enqueue", event)
}

func sendOpsgenie(ctx context.Context, s *session) error {
	n := s.note
	host := "https://api.opsgenie.com"
	if s.text("region") == "eu" {
		host = "https://api.eu.opsgenie.com"
	}
	key := header("Authorization", "GenieKey "+s.text("api_key"))
	if _, ends := n.condition(); ends {
		return s.post(ctx, host+"/v2/alerts/"+url.PathEscape(dedup(n))+"/close?identifierType=alias", object{"source": "dataguardian", "note": n.body(4000)}, key)
	}
	return s.post(ctx, host+"/v2/alerts", object{
		"message": n.title(130), "alias": dedup(n), "description": n.body(15_000), "source": "dataguardian",
		"priority": rank(n, "P5", "P3", "P1"), "tags": []string{string(n.Type)}, "entity": string(n.EntityType),
	}, key)
}

func sendSplunkOnCall(ctx context.Context, s *session) error {
	n := s.note
	kind := rank(n, "INFO", "WARNING", "CRITICAL")
	if _, ends := n.condition(); ends {
		kind = "RECOVERY"
	}
	return s.post(ctx, s.text("url"), object{
		"message_type": kind, "entity_id": dedup(n), "entity_display_name": n.title(200), "state_message": n.body(4000),
		"state_start_time": n.CreatedAt.Unix(), "monitoring_tool": "dataguardian",
	}, unless("result", "success", "message"))
}

// dedup is the key of a condition in the form every service takes.
func dedup(n note) string {
	sum := sha256.Sum256([]byte(n.key()))
	return "dataguardian-" + hex.EncodeToString(sum[:16])
}

// sendAlertmanager sends an alert that ends by itself after a day, or at once when
// the event ends its condition.
func sendAlertmanager(ctx context.Context, s *session) error {
	n := s.note
	condition, ends := n.condition()
	severity, end := n.Severity, n.CreatedAt.Add(24*time.Hour)
	if ends { // it must have the labels of the alert that it ends
		severity, end = notification.Critical, n.CreatedAt
	}
	var more []func(*request)
	if value := s.text("authorization"); value != "" {
		more = append(more, header("Authorization", value))
	}
	return s.post(ctx, s.base()+"/api/v2/alerts", []object{{
		"labels": object{
			"alertname": "dataguardian_" + string(condition), "severity": string(severity), "entity_type": string(n.EntityType), "entity_id": n.EntityID,
		},
		"annotations": object{"summary": n.title(200), "description": n.body(4000)},
		"startsAt":    n.CreatedAt.UTC().Format(time.RFC3339), "endsAt": end.UTC().Format(time.RFC3339),
	}}, more...)
}
