package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// table is what a section has found out: the first column names the row.
type table struct {
	title string
	notes []string
	head  []string
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String returns the table in Markdown, aligned for people.
func (t table) String() string {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", t.title)
	for _, note := range t.notes {
		fmt.Fprintf(&b, "%s\n\n", note)
	}
	line := func(row []string) {
		for i, cell := range row {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(&b, "| %s%s ", cell, fill)
			} else {
				fmt.Fprintf(&b, "| %s%s ", fill, cell)
			}
		}
		b.WriteString("|\n")
	}
	line(t.head)
	for i, width := range widths {
		if i == 0 {
			fmt.Fprintf(&b, "| %s ", strings.Repeat("-", width))
		} else {
			fmt.Fprintf(&b, "| %s: ", strings.Repeat("-", width-1))
		}
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
func millis(d time.Duration) string  { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
func megabytes(n int64) string       { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// ratio is how many times other fits into one.
func ratio[T int64 | float64 | time.Duration](one, other T) string {
	if other == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(one)/float64(other))
}

// median of values that need not be in order; of an even number the lower middle.
func median[T int64 | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
