package courier

import "github.com/dataguardian/dataguardian/internal/notification"

// Families of receivers, for the documentation.
const (
	familyHook  = "Webhooks"
	familyMail  = "Mail"
	familyChat  = "Chats"
	familyPush  = "Phones"
	familyAlarm = "On call"
	familyHome  = "Homes"
)

const caName = "ca_certificate"

func text(name, help string) notification.Field {
	return notification.Field{Name: name, Kind: notification.TextField, Help: help}
}

func required(f notification.Field) notification.Field {
	f.Required = true
	return f
}

func withDefault(f notification.Field, value string) notification.Field {
	f.Default = value
	return f
}

// secret is a text that is never shown.
func secret(name, help string) notification.Field {
	f := text(name, help)
	f.Secret = true
	return f
}

// secretURL is the address of an incoming webhook: whoever knows it may post.
func secretURL(help string) notification.Field {
	return notification.Field{Name: "url", Kind: notification.URLField, Required: true, Secret: true, Help: help}
}

// placed is an address to which other secrets go.
func placed(f notification.Field) notification.Field {
	f.Place = true
	return f
}

// server is the address of a receiver that people run themselves, or may.
func server(fallback, help string) notification.Field {
	return notification.Field{Name: "url", Kind: notification.URLField, Required: fallback == "", Place: true, Default: fallback, Help: help}
}

// ca lets a receiver have a certificate of a private authority.
func ca() notification.Field {
	return notification.Field{Name: caName, Kind: notification.PEMField, Help: "authority of its certificate, in PEM form, if it is a private one"}
}

// region is where an account of a service is kept.
func region() notification.Field {
	return notification.Field{Name: "region", Kind: notification.ChoiceField, Default: "us", Choices: []string{"us", "eu"}, Help: "where the account is"}
}

func of(name, title, family string, fields ...notification.Field) notification.ChannelType {
	return notification.ChannelType{Name: name, Title: title, Family: family, Fields: fields}
}
