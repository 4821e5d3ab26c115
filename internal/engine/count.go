package engine

import (
	"fmt"
	"strings"
)

// Count writes a number of things for a person: "1 table", "2 tables", "3 copies".
// The noun is an English one of regular plural.
func Count[N int | int32 | int64](n N, noun string) string {
	if n != 1 {
		if stem, found := strings.CutSuffix(noun, "y"); found {
			noun = stem + "ie"
		}
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
