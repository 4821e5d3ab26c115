package tool

import "strings"

const shortestSecret = 4

// Redact hides a secret in a tool's words. Very short secrets stay: hiding them
// would tell what they are.
func Redact(line, secret string) string {
	if len(secret) < shortestSecret {
		return line
	}
	return strings.ReplaceAll(line, secret, "***")
}

// Pass returns a listener to a tool's lines that gives them to say without the secret.
// Empty lines, which tools put around statements that they quote, are left out.
func Pass(secret string, say func(line string)) func(line string) {
	return func(line string) {
		if strings.TrimSpace(line) != "" {
			say(Redact(line, secret))
		}
	}
}

// LastWords joins the last lines a tool wrote into one, for an error.
func LastWords(lines []string, secret string) string {
	const most, longest = 4, 600
	lines = withoutStatement(lines)
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	var said []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			said = append(said, line)
		}
	}
	s := Redact(strings.Join(said, " | "), secret)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + " [...]"
	}
	return s
}

// withoutStatement leaves out the statement that pg_restore shows after an error: it
// may be long, and says less.
func withoutStatement(lines []string) []string {
	for i, line := range lines {
		if i > 0 && strings.HasPrefix(line, "Command was:") {
			return lines[:i]
		}
	}
	return lines
}
