package notification

import (
	"fmt"
	"strings"
	"time"
)

// DigestEvery is the shortest time between two digests of a channel: they are what
// comes beyond its limit.
const DigestEvery = 10 * time.Minute

// DigestTitles is how many titles a digest names.
const DigestTitles = 10

// Summarize puts notifications of the given kinds, the gravest first, into one. It
// has the id and the time of lead, and the gravest type and severity.
func Summarize(lead Notification, kinds []Kind, titles []string) Notification {
	total := 0
	counts := map[string]any{}
	var parts []string
	byType := map[Type]int{}
	for _, k := range kinds {
		total += k.Count
		byType[k.Type] += k.Count
	}
	for _, k := range kinds {
		if n, first := byType[k.Type], counts[string(k.Type)] == nil; first {
			counts[string(k.Type)] = n
			parts = append(parts, fmt.Sprintf("%d %s", n, k.Type))
		}
	}
	n := lead
	n.EntityType, n.EntityID = System, ""
	n.Title = fmt.Sprintf("%d notifications in one", total)
	n.Message = strings.Join(parts, ", ") + "."
	if len(kinds) > 0 {
		n.Type, n.Severity = kinds[0].Type, kinds[0].Severity
	}
	if len(titles) > 0 {
		n.Message += "\n- " + strings.Join(titles, "\n- ")
	}
	if rest := total - len(titles); rest > 0 {
		n.Message += fmt.Sprintf("\nand %d more; \"dataguardian notification list\" shows all.", rest)
	}
	n.Metadata = map[string]any{"digest": true, "count": total, "types": counts}
	return n
}
