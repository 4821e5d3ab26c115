package logs

import (
	"fmt"
	"time"
)

// HumanBytes writes a size for a person: "0 B", "980 B", "1.2 GiB", "210 MiB".
func HumanBytes(n int64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= step && unit < len("KMGTPE")-1 {
		value /= step
		unit++
	}
	if value < 99.95 {
		return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, "KMGTPE"[unit])
}

// HumanDuration writes a duration for a person, with its two largest units:
// "11 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
func HumanDuration(d time.Duration) string {
	seconds := int64(d.Round(time.Second) / time.Second)
	for _, u := range []struct {
		size, part int64
		name, sub  string
	}{{86400, 3600, "d", "h"}, {3600, 60, "h", "min"}, {60, 1, "min", "s"}} {
		if seconds < u.size {
			continue
		}
		if rest := seconds % u.size / u.part; rest > 0 {
			return fmt.Sprintf("%d %s %d %s", seconds/u.size, u.name, rest, u.sub)
		}
		return fmt.Sprintf("%d %s", seconds/u.size, u.name)
	}
	return fmt.Sprintf("%d s", max(seconds, 0))
}
