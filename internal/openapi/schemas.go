package main

import (
	"fmt"
	"slices"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// collect notes the schemas of a message and of all messages in it.
func (d described) collect(doc *openapi3.T, message protoreflect.MessageDescriptor, into map[string]protoreflect.MessageDescriptor) error {
	if strings.HasPrefix(string(message.FullName()), "google.") {
		return nil
	}
	if name, found := schemaName(doc, message); found {
		if _, seen := into[name]; seen {
			return nil
		}
		into[name] = message
	}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if field.Kind() != protoreflect.MessageKind && field.Kind() != protoreflect.GroupKind {
			continue
		}
		inner := field.Message()
		if field.IsMap() {
			inner = field.MapValue().Message()
		}
		if inner == nil {
			continue
		}
		if err := d.collect(doc, inner, into); err != nil {
			return err
		}
	}
	return nil
}

// schemaName finds the schema of a message. A nested message is known by its own
// name, or by its owner's and its own where its own is not unique.
func schemaName(doc *openapi3.T, message protoreflect.MessageDescriptor) (string, bool) {
	name := strings.TrimPrefix(string(message.FullName()), string(message.ParentFile().Package())+".")
	for {
		if _, found := doc.Components.Schemas[name]; found {
			return name, true
		}
		_, rest, nested := strings.Cut(name, ".")
		if !nested {
			return "", false
		}
		name = rest
	}
}

// describeSchemas adds what the messages' fields promise.
func (d described) describeSchemas(doc *openapi3.T) error {
	for name, message := range d.responses {
		describeFields(doc.Components.Schemas[name].Value, message)
		if _, both := d.requests[name]; !both {
			doc.Components.Schemas[name].Value.Required = always(message)
		}
	}
	for name, message := range d.requests {
		schema := doc.Components.Schemas[name].Value
		describeFields(schema, message)
		if _, both := d.responses[name]; !both {
			// The path has some of the fields.
			schema.Required = slices.DeleteFunc(required(message), func(field string) bool {
				return schema.Properties[field] == nil
			})
		}
	}
	for name, schema := range doc.Components.Schemas {
		for property, value := range schema.Value.Properties {
			if value == nil || (value.Ref == "" && value.Value == nil) {
				return fmt.Errorf("property %s of schema %s is empty", property, name)
			}
		}
	}
	return nil
}

func describeFields(schema *openapi3.Schema, message protoreflect.MessageDescriptor) {
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		property := schema.Properties[string(field.Name())]
		if property == nil {
			continue
		}
		if property.Value != nil && property.Ref == "" {
			constrain(property.Value, field)
		}
		if nullable(field) {
			schema.Properties[string(field.Name())] = withNull(property, field)
		}
	}
}

// nullable says whether a field without a value is null. Members of a oneof are
// left out instead.
func nullable(field protoreflect.FieldDescriptor) bool {
	return field.HasPresence() && field.ContainingOneof() == nil
}

// withNull allows null. A reference cannot, so it is wrapped; what allows null
// has to name its type.
func withNull(property *openapi3.SchemaRef, field protoreflect.FieldDescriptor) *openapi3.SchemaRef {
	if property.Ref != "" {
		property = openapi3.NewSchemaRef("", &openapi3.Schema{
			AllOf: openapi3.SchemaRefs{{Ref: property.Ref}},
		})
	}
	property.Value.Nullable = true
	if property.Value.Type == nil {
		kind := openapi3.TypeObject
		if field.Kind() == protoreflect.EnumKind {
			kind = openapi3.TypeString
		}
		property.Value.Type = &openapi3.Types{kind}
	}
	return property
}

// always lists the fields that every answer has.
func always(message protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range message.Fields().Len() {
		if field := message.Fields().Get(i); field.ContainingOneof() == nil {
			names = append(names, string(field.Name()))
		}
	}
	return names
}

// required lists the fields that a request cannot do without.
func required(message protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range message.Fields().Len() {
		if field := message.Fields().Get(i); refusesAbsence(field) {
			names = append(names, string(field.Name()))
		}
	}
	return names
}

func rulesOf(field protoreflect.FieldDescriptor) *validate.FieldRules {
	rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	return rules
}

// refusesAbsence says whether validation fails on the value an absent field has.
func refusesAbsence(field protoreflect.FieldDescriptor) bool {
	rules := rulesOf(field)
	if rules.GetIgnore() != validate.Ignore_IGNORE_UNSPECIFIED {
		return false
	}
	if rules.GetRequired() {
		return true
	}
	if field.HasPresence() {
		return false
	}
	text, number, enum := rules.GetString(), rules.GetInt32(), rules.GetEnum()
	return text.GetMinLen() > 0 || text.GetUuid() ||
		number.GetGte() > 0 ||
		rules.GetRepeated().GetMinItems() > 0 ||
		slices.Contains(enum.GetNotIn(), 0) ||
		len(enum.GetIn()) > 0 && !slices.Contains(enum.GetIn(), 0)
}

// constrain writes the rules of a field into its schema.
func constrain(schema *openapi3.Schema, field protoreflect.FieldDescriptor) {
	rules := rulesOf(field)
	if rules == nil || schema == nil {
		return
	}
	if text := rules.GetString(); text != nil {
		constrainText(schema, text)
	}
	if number := rules.GetInt32(); number != nil {
		if number.HasGte() {
			schema.Min = new(float64(number.GetGte()))
		}
		if number.HasLte() {
			schema.Max = new(float64(number.GetLte()))
		}
	}
	if list := rules.GetRepeated(); list != nil && schema.Items != nil {
		schema.MinItems = list.GetMinItems()
		schema.UniqueItems = list.GetUnique()
		if list.HasMaxItems() {
			schema.MaxItems = new(list.GetMaxItems())
		}
		if schema.Items.Value != nil && schema.Items.Ref == "" && list.GetItems().GetString() != nil {
			constrainText(schema.Items.Value, list.GetItems().GetString())
		}
	}
}

func constrainText(schema *openapi3.Schema, text *validate.StringRules) {
	schema.MinLength = text.GetMinLen()
	if text.HasMaxLen() {
		schema.MaxLength = new(text.GetMaxLen())
	}
	if text.HasPattern() {
		schema.Pattern = text.GetPattern()
	}
	if text.GetUuid() {
		schema.Format = "uuid"
	}
}
