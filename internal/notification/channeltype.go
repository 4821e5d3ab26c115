package notification

import "context"

// FieldKind says what a setting of a channel holds.
type FieldKind string

// Field kinds.
const (
	TextField   FieldKind = "text"
	URLField    FieldKind = "url"
	HostField   FieldKind = "host"
	NumberField FieldKind = "number"
	ChoiceField FieldKind = "choice"
	EmailField  FieldKind = "email"
	EmailsField FieldKind = "emails" // separated by commas
	PEMField    FieldKind = "pem"
)

// Field is one setting of a type of channel.
type Field struct {
	Name     string
	Kind     FieldKind
	Required bool
	Secret   bool     // encrypted at rest and never shown
	Place    bool     // says where messages go: secrets are asked for again when it changes
	Choices  []string // of a ChoiceField
	Default  string   // what applies when it is absent
	Help     string   // a few words for a person
}

// ChannelType is one kind of receiver and its settings: validation, the command
// line and the documentation are made from it.
type ChannelType struct {
	Name   string
	Title  string
	Family string // what it has in common with others, for the documentation
	Fields []Field
}

// Field returns the setting of that name.
func (t ChannelType) Field(name string) (Field, bool) {
	for _, f := range t.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Courier sends notifications to receivers.
type Courier interface {
	// Types returns every type of channel, by name.
	Types() []ChannelType
	// Send tries once to send n through c. It is bounded in time. The error is an
	// *errs.Error whose sentence holds no secret; see RetryAfter and Unsound.
	Send(ctx context.Context, c Channel, n Notification, deliveryID string) error
}
