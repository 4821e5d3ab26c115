package notification

import (
	"crypto/x509"
	"fmt"
	"net/mail"
	"net/url"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/settings"
)

const configField = "config"

// Limits of settings, in bytes.
const (
	maxText   = 1000
	maxSecret = 4000
	maxPEM    = 64 << 10
)

// checkConfig reads the settings of a channel and parts them into open and secret
// ones. The error is Invalid (CodeInvalidChannel) and lists every bad field.
func checkConfig(t ChannelType, config map[string]any) (open, secrets map[string]any, err error) {
	r := settings.NewReader(configField, config)
	open, secrets = map[string]any{}, map[string]any{}
	for _, f := range t.Fields {
		value := read(r, f)
		if value == nil {
			continue
		}
		if f.Secret {
			secrets[f.Name] = value
		} else {
			open[f.Name] = value
		}
	}
	if fields := r.Fields(); len(fields) > 0 {
		return nil, nil, errs.InvalidFields(CodeInvalidChannel, fields...)
	}
	return open, secrets, nil
}

// read returns the checked value of one setting, nil when it is absent.
func read(r *settings.Reader, f Field) any {
	if !r.Has(f.Name) {
		if f.Required {
			r.Complain(f.Name, "is required: "+f.Help)
		}
		return nil
	}
	if f.Kind == NumberField {
		return r.Int(f.Name, 0, 65535)
	}
	text, isText := readText(r, f)
	switch {
	case !isText:
		return nil
	case text == "" && f.Required:
		r.Complain(f.Name, "must not be blank")
		return nil
	case text == "":
		return nil
	}
	if complaint := f.complaint(text); complaint != "" {
		r.Complain(f.Name, complaint)
	}
	return text
}

// readText returns a text without the space around it; false when it is none.
func readText(r *settings.Reader, f Field) (string, bool) {
	limit := maxText
	switch {
	case f.Kind == PEMField:
		limit = maxPEM
	case f.Secret, f.Kind == EmailsField:
		limit = maxSecret
	}
	before := len(r.Fields())
	read := r.Line
	if f.Kind == PEMField {
		read = r.String // has lines
	}
	text := strings.TrimSpace(read(f.Name, limit))
	return text, len(r.Fields()) == before
}

// complaint says what is wrong with a text, or nothing.
func (f Field) complaint(text string) string {
	switch f.Kind {
	case URLField:
		return urlComplaint(text)
	case HostField:
		if strings.ContainsAny(text, "/@ ?#") {
			return "must be a bare host name or address"
		}
	case ChoiceField:
		for _, choice := range f.Choices {
			if text == choice {
				return ""
			}
		}
		return "must be one of " + strings.Join(f.Choices, ", ")
	case EmailField:
		if _, err := mail.ParseAddress(text); err != nil {
			return "must be an e-mail address"
		}
	case EmailsField:
		if _, err := mail.ParseAddressList(text); err != nil {
			return "must be e-mail addresses, separated by commas"
		}
	case PEMField:
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
			return "must be a certificate in PEM form"
		}
	case TextField, NumberField:
	}
	return ""
}

func urlComplaint(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "must be a URL such as https://example.com/path"
	case u.User != nil:
		return "must not hold a user or password; there are settings for them"
	case u.Fragment != "":
		return "must not hold a fragment"
	}
	return ""
}

// view returns the settings a read shows: secrets only as set, and of an address
// the host.
func view(c Channel) map[string]any {
	shown := settings.Merge(c.Config, nil)
	for name, secret := range c.Secrets {
		shown[name] = settings.Set()
		text, _ := secret.(string)
		if u, err := url.Parse(text); err == nil && u.Host != "" && urlComplaint(text) == "" {
			shown[name] = settings.SetOn(u.Host)
		}
	}
	return shown
}

// settle parts the settings of a channel as its type does now: one that was stored
// before a setting became secret has it among the open ones.
func settle(t ChannelType, c *Channel) {
	for _, f := range t.Fields {
		value, open := c.Config[f.Name]
		if !f.Secret || !open {
			continue
		}
		c.Config, c.Secrets = settings.Merge(c.Config, map[string]any{f.Name: nil}), settings.Merge(c.Secrets, map[string]any{f.Name: value})
	}
}

// unsettled reports whether settle has something to do.
func unsettled(t ChannelType, c Channel) bool {
	for _, f := range t.Fields {
		if _, open := c.Config[f.Name]; f.Secret && open {
			return true
		}
	}
	return false
}

// ConfigView returns the settings of a channel that anybody may see; nil when it
// came from a list.
func ConfigView(c Channel) map[string]any {
	if c.Config == nil && c.Secrets == nil {
		return nil
	}
	return view(c)
}

// mergeConfig applies the sent settings to those of c. A secret never travels to a
// new place by itself.
func mergeConfig(t ChannelType, c Channel, changes map[string]any) (open, secrets map[string]any, err error) {
	current := settings.Merge(c.Config, c.Secrets)
	open, secrets, err = checkConfig(t, settings.Merge(current, changes))
	if err != nil {
		return nil, nil, err
	}
	if !moved(t, current, settings.Merge(open, secrets)) {
		return open, secrets, nil
	}
	var fields []errs.Field
	for _, f := range t.Fields {
		sent, has := changes[f.Name]
		if f.Secret && c.Secrets[f.Name] != nil && secrets[f.Name] != nil && (!has || settings.IsSet(sent)) {
			fields = append(fields, errs.Field{Field: configField + "." + f.Name, Message: "is required again when the receiver's address changes"})
		}
	}
	if len(fields) > 0 {
		return nil, nil, errs.InvalidFields(CodeInvalidChannel, fields...)
	}
	return open, secrets, nil
}

func moved(t ChannelType, before, after map[string]any) bool {
	for _, f := range t.Fields {
		if f.Place && fmt.Sprint(before[f.Name]) != fmt.Sprint(after[f.Name]) {
			return true
		}
	}
	return false
}
