package courier

import (
	"fmt"
	"strings"

	"github.com/dataguardian/dataguardian/internal/notification"
)

// Reference describes types of channels as Markdown tables, one for each family.
// The manual has it, and a test keeps it there.
func Reference(types []notification.ChannelType) string {
	var text strings.Builder
	for _, family := range []string{familyHook, familyMail, familyChat, familyPush, familyAlarm, familyHome} {
		fmt.Fprintf(&text, "\n%s:\n\n| type | receiver | settings |\n| --- | --- | --- |\n", family)
		for _, t := range types {
			if t.Family == family {
				fmt.Fprintf(&text, "| `%s` | %s | %s |\n", t.Name, t.Title, strings.Join(describe(t.Fields), "; "))
			}
		}
	}
	text.WriteString("\n")
	return text.String()
}

// describe says of every setting what a person needs to know. Required ones are
// bold; a star marks those that are encrypted.
func describe(fields []notification.Field) []string {
	var all []string
	for _, f := range fields {
		name := "`" + f.Name + "`"
		if f.Required {
			name = "**" + name + "**"
		}
		if f.Secret {
			name += "\\*"
		}
		if f.Name == caName {
			all = append(all, name) // explained once, above the tables
			continue
		}
		name += " " + f.Help
		if len(f.Choices) > 0 {
			name += " (" + strings.Join(f.Choices, ", ") + ")"
		}
		if f.Default != "" {
			name += ", default " + f.Default
		}
		all = append(all, strings.ReplaceAll(name, "|", "\\|"))
	}
	return all
}
