package storagetest

import (
	"testing"

	"go.uber.org/goleak"
)

// VerifyNoLeaks runs m and fails when goroutines are left. The network's proxy
// leaves some of its own behind when a toxic has cut a connection.
func VerifyNoLeaks(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
	)
}
