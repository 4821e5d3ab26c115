package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// describeMachine says where and what with the numbers were made.
func describeMachine(c *cluster) string {
	return fmt.Sprintf("%s, %d cores, %s; %s, PostgreSQL %s; %s",
		processor(), runtime.NumCPU(), memoryTotal(), runtime.Version(), c.version, time.Now().UTC().Format(time.DateOnly))
}

func processor() string { return procField("/proc/cpuinfo", "model name", runtime.GOARCH) }

func memoryTotal() string {
	var kilobytes int64
	if _, err := fmt.Sscan(procField("/proc/meminfo", "MemTotal", ""), &kilobytes); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%.0f GB", float64(kilobytes)/1e6)
}

// procField returns the value of the first "name : value" of a file in /proc.
func procField(file, name, unknown string) string {
	raw, err := os.ReadFile(file) //nolint:gosec // a constant
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}
