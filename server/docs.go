package server

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
)

// newDocs renders the page of the API from its OpenAPI document. The page needs
// nothing from elsewhere, and its policy allows nothing but its own style and
// script, by their hashes.
func newDocs(openAPI []byte, version string) (http.Handler, error) {
	var doc document
	if len(openAPI) > 0 {
		if err := json.Unmarshal(openAPI, &doc); err != nil {
			return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
		}
	}
	page, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("reading the template of the API page: %w", err)
	}
	view := doc.view(version)
	view.Style, view.Script = template.CSS(pageCSS), template.JS(pageJS) //nolint:gosec // our own files
	var text bytes.Buffer
	if err := page.Execute(&text, view); err != nil {
		return nil, fmt.Errorf("rendering the API page: %w", err)
	}
	policy := fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		sourceHash(pageCSS), sourceHash(pageJS))
	body := text.Bytes()
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body) // a reader that is gone needs no answer
	}), nil
}

func sourceHash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// document is what the page shows of an OpenAPI 3 document.
type document struct {
	Info struct {
		Title, Version, Description string
	}
	Tags []struct {
		Name, Description string
	}
	Paths      map[string]map[string]operation
	Components struct {
		Schemas   map[string]schema
		Responses map[string]response
	}
}

type operation struct {
	OperationID          string
	Summary, Description string
	Tags                 []string
	Parameters           []parameter
	RequestBody          *struct{ Content map[string]media }
	Responses            map[string]response
}

type parameter struct {
	Name, In, Description string
	Required              bool
	Schema                schema
}

type response struct {
	Ref         string `json:"$ref"`
	Description string
	Content     map[string]media
}

type media struct{ Schema schema }

type schema struct {
	Ref                  string `json:"$ref"`
	Type, Format         string
	Description          string
	Nullable             bool
	Enum                 []any
	Items                *schema
	Properties           map[string]schema
	Required             []string
	AllOf                []schema
	AdditionalProperties json.RawMessage
	Minimum, Maximum     *json.Number
	MinLength, MaxLength *int
	Example              any
}

// pageView is the page as the template reads it.
type pageView struct {
	Title, Version string
	About          []string
	Groups         []groupView
	Schemas        []schemaView
	Style          template.CSS
	Script         template.JS
}

type groupView struct {
	Name, About string
	Operations  []operationView
}

type operationView struct {
	ID, Verb, Path, Summary, About string
	Parameters                     []rowView
	Body                           *typeView
	Curl                           string
	Answers                        []answerView
}

type answerView struct {
	Status, About, Media string
	Type                 typeView
	Example              string
}

type schemaView struct {
	Name, About string
	Words       []string
	Rows        []rowView
}

type rowView struct {
	Name, Where, About string
	Required           bool
	Type               typeView
}

// typeView is the name of a type; Link names a schema of the page.
type typeView struct{ Text, Link, Note string }

func (d document) view(version string) pageView {
	v := pageView{Title: cmp.Or(d.Info.Title, "API"), Version: version, About: strings.Split(d.Info.Description, "\n\n")}
	groups := map[string]*groupView{}
	var order []string
	group := func(name string) *groupView {
		if groups[name] == nil {
			groups[name] = &groupView{Name: name}
			order = append(order, name)
		}
		return groups[name]
	}
	for _, tag := range d.Tags {
		group(tag.Name).About = tag.Description
	}
	for _, path := range sortedKeys(d.Paths) {
		for _, verb := range []string{"get", "post", "put", "delete"} {
			if op, ok := d.Paths[path][verb]; ok {
				name := "Other"
				if len(op.Tags) > 0 {
					name = op.Tags[0]
				}
				g := group(name)
				g.Operations = append(g.Operations, d.operation(strings.ToUpper(verb), path, op))
			}
		}
	}
	for _, name := range order {
		v.Groups = append(v.Groups, *groups[name])
	}
	for _, name := range sortedKeys(d.Components.Schemas) {
		v.Schemas = append(v.Schemas, schemaOf(name, d.Components.Schemas[name]))
	}
	return v
}

func (d document) operation(verb, path string, op operation) operationView {
	v := operationView{ID: cmp.Or(op.OperationID, verb+path), Verb: verb, Path: path, Summary: op.Summary, About: op.Description}
	for _, p := range op.Parameters {
		v.Parameters = append(v.Parameters, rowView{Name: p.Name, Where: p.In, About: p.Description, Required: p.Required, Type: typeOf(p.Schema)})
	}
	curl := `curl -H "Authorization: Bearer $DATAGUARDIAN_TOKEN"`
	if verb != http.MethodGet {
		curl += " -X " + verb
	}
	if op.RequestBody != nil {
		body := op.RequestBody.Content["application/json"].Schema
		t := typeOf(body)
		v.Body = &t
		curl += " -H 'Content-Type: application/json' \\\n  -d '" + strings.ReplaceAll(d.example(body), "'", `'\''`) + "'"
	}
	v.Curl = curl + ` \` + "\n  \"$DATAGUARDIAN_URL" + path + `"`
	for _, status := range sortedKeys(op.Responses) {
		answer := op.Responses[status]
		if answer.Ref != "" {
			answer = d.Components.Responses[answer.Ref[strings.LastIndexByte(answer.Ref, '/')+1:]]
		}
		if len(answer.Content) == 0 {
			v.Answers = append(v.Answers, answerView{Status: status, About: answer.Description})
		}
		for _, name := range sortedKeys(answer.Content) {
			s := answer.Content[name].Schema
			shown := answerView{Status: status, About: answer.Description, Media: name, Type: typeOf(s)}
			if name == "application/json" && status != "default" {
				shown.Example = d.example(s)
			}
			v.Answers = append(v.Answers, shown)
		}
	}
	return v
}

func schemaOf(name string, s schema) schemaView {
	v := schemaView{Name: name, About: s.Description}
	for _, word := range s.Enum {
		v.Words = append(v.Words, fmt.Sprint(word))
	}
	for _, field := range sortedKeys(s.Properties) {
		p := s.Properties[field]
		v.Rows = append(v.Rows, rowView{Name: field, About: p.Description, Required: slices.Contains(s.Required, field), Type: typeOf(p)})
	}
	return v
}

func typeOf(s schema) typeView {
	var t typeView
	switch {
	case s.Ref != "":
		t.Link = refName(s.Ref)
		t.Text = t.Link
	case len(s.AllOf) == 1:
		t = typeOf(s.AllOf[0])
	case s.Type == "array" && s.Items != nil:
		t = typeOf(*s.Items)
		t.Text = "list of " + t.Text
	default:
		t.Text = cmp.Or(s.Type, "any")
		if s.Format != "" {
			t.Text += " (" + s.Format + ")"
		}
	}
	t.Note = strings.Join(append(limits(s), t.Note), " ")
	return t
}

func limits(s schema) []string {
	var notes []string
	if s.Nullable {
		notes = append(notes, "or null")
	}
	if s.Minimum != nil {
		notes = append(notes, "≥ "+s.Minimum.String())
	}
	if s.Maximum != nil {
		notes = append(notes, "≤ "+s.Maximum.String())
	}
	if s.MaxLength != nil {
		notes = append(notes, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	for _, word := range s.Enum {
		notes = append(notes, fmt.Sprint(word))
	}
	return notes
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
