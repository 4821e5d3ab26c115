package auth

import "context"

// Thing is a kind of thing that a scope can hold.
type Thing string

// Things.
const (
	Datasources   Thing = "datasource"
	Jobs          Thing = "job"
	Executions    Thing = "execution"
	Notifications Thing = "notification"
)

// ScopeStore knows what lies in a scope.
type ScopeStore interface {
	// InScope reports whether a thing belongs to a datasource with one of the tags. What
	// does not exist does not.
	InScope(ctx context.Context, thing Thing, id string, tags []string) (bool, error)
}

type scopeKey struct{}

// WithScope returns a context whose lists hold only what belongs to datasources
// with one of the tags. It goes with the call down to the store, so that no layer
// between can forget it.
func WithScope(ctx context.Context, tags []string) context.Context {
	if len(tags) == 0 {
		return ctx
	}
	return context.WithValue(ctx, scopeKey{}, tags)
}

// ScopeOf returns the tags of a context's scope; nil when there is none, which
// means everything.
func ScopeOf(ctx context.Context) []string {
	tags, _ := ctx.Value(scopeKey{}).([]string)
	return tags
}
