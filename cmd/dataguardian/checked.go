package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// addChecked adds what a verification has found, and what it could not look at.
func addChecked(t *table, checked map[string]*structpb.Value) {
	for _, c := range checked["copies"].GetListValue().GetValues() {
		found := c.GetStructValue().GetFields()
		state := found["error"].GetStringValue()
		switch {
		case state != "":
		case found["decoded"].GetBoolValue():
			state = "every part, and the dump inside, is as it was written"
		default:
			state = "every part is as it was written; the dump inside was not opened, for lack of a key"
		}
		t.add("Copy on "+found["storage_name"].GetStringValue(), state)
	}
	if tables, ok := checked["tables"]; ok {
		text := fmt.Sprintf("%.0f tables with %.0f rows", tables.GetNumberValue(), checked["rows"].GetNumberValue())
		if n := len(checked["differences"].GetListValue().GetValues()); n > 0 {
			text += fmt.Sprintf(", %d of them not as dumped", n)
		}
		t.add("Checked", text)
	}
	if schema := checked["schema"].GetStructValue().GetFields(); schema != nil {
		t.add("Schema", schema["outcome"].GetStringValue())
	}
	for _, a := range checked["assertions"].GetListValue().GetValues() {
		t.add("Assertion", assertionText(a.GetStructValue().GetFields()))
	}
	for _, w := range checked["warnings"].GetListValue().GetValues() {
		t.add("Warning", w.GetStringValue())
	}
}

func assertionText(a map[string]*structpb.Value) string {
	name := a["name"].GetStringValue()
	switch {
	case a["passed"].GetBoolValue():
		return name + ": holds"
	case a["error"].GetStringValue() != "":
		return name + ": could not be asked: " + a["error"].GetStringValue()
	}
	return strings.Join([]string{name + ": expects", a["expected"].GetStringValue(), "and got", a["got"].GetStringValue()}, " ")
}
