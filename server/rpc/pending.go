package rpc

import (
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// pending names the RPCs of the contract that this server does not offer yet. A
// test holds it against the handlers: what is here has none, what is not has one.
func pending() []string {
	return nil
}

// Pending returns, by full name, the error that each RPC without a handler answers.
func Pending() map[string]error {
	refusals := map[string]error{}
	for _, method := range pending() {
		name := method[strings.LastIndexByte(method, '/')+1:]
		refusals[method] = errs.New(errs.Unimplemented, errs.CodeNotImplemented,
			"%s is part of the API, but this version of the server does not offer it yet; a newer version will", name)
	}
	return refusals
}
