package embedded

import (
	"strconv"
	"strings"
)

// serverArgs returns the command line of the postmaster. What is given here
// wins over the cluster's own files, so that every start has the same settings:
// a small footprint, nothing traded for durability, and no client's data in the
// log.
func serverArgs(dir, sockets string) []string {
	settings := [][2]string{
		{"listen_addresses", ""},
		{"unix_socket_directories", `"` + strings.ReplaceAll(sockets, `"`, `""`) + `"`},
		{"unix_socket_permissions", "0700"},
		{"port", strconv.Itoa(socketPort)},
		{"cluster_name", superuser},
		{"max_connections", "100"},
		{"shared_buffers", "64MB"},
		// Parallel queries need /dev/shm, of which containers have little.
		{"max_parallel_workers_per_gather", "0"},
		{"jit", "off"},
		{"fsync", "on"},
		{"full_page_writes", "on"},
		{"synchronous_commit", "on"},
		{"password_encryption", "scram-sha-256"},
		{"timezone", "UTC"},
		{"log_timezone", "UTC"},
		{"logging_collector", "off"},
		{"log_destination", "stderr"},
		{"log_line_prefix", "%m [%p] "},
		{"log_statement", "none"},
		{"log_min_error_statement", "panic"},
		{"log_parameter_max_length", "0"},
		{"log_error_verbosity", "terse"},
	}
	args := []string{"-D", dir}
	for _, s := range settings {
		args = append(args, "-c", s[0]+"="+s[1])
	}
	return args
}
