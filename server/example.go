package server

import (
	"encoding/json"
	"slices"
)

// exampleDepth bounds how far an example follows schemas into each other.
const exampleDepth = 5

// example writes a value of a schema as indented JSON.
func (d document) example(s schema) string {
	text, err := json.MarshalIndent(d.sample(s, nil), "", "  ")
	if err != nil {
		return ""
	}
	return string(text)
}

// sample makes a value of a schema up. seen names the schemas on the way, so that
// one that holds itself ends.
func (d document) sample(s schema, seen []string) any {
	switch {
	case s.Example != nil:
		return s.Example
	case s.Ref != "":
		name := refName(s.Ref)
		if slices.Contains(seen, name) || len(seen) >= exampleDepth {
			return map[string]any{}
		}
		return d.sample(d.Components.Schemas[name], append(slices.Clone(seen), name))
	case len(s.AllOf) > 0:
		return d.sample(s.AllOf[0], seen)
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case "array":
		if s.Items == nil {
			return []any{}
		}
		return []any{d.sample(*s.Items, seen)}
	case "boolean":
		return true
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "string":
		return sampleText(s.Format)
	}
	object := map[string]any{}
	for name, property := range s.Properties {
		object[name] = d.sample(property, seen)
	}
	return object
}

func sampleText(format string) string {
	switch format {
	case "uuid":
		return "5f0c2a54-1f0a-4b53-9f61-5a3b7c0d9e21"
	case "date-time":
		return "2026-11-24T03:00:00Z"
	case "int64":
		return "1048576"
	}
	return "text"
}
