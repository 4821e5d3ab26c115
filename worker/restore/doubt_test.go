package restore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/artifact"
)

func TestTheNearestTableIsNamed(t *testing.T) {
	t.Parallel()
	tables := []artifact.ManifestTable{{Schema: "public", Name: "orders"}, {Schema: "sales", Name: "towns"}, {Name: "plain"}}
	for name, want := range map[string]string{
		"ordres": "orders", "public.ordres": "public.orders", "ORDERS": "orders", "townz": "towns",
		"plian": "plain", "invoices": "", "": "",
	} {
		require.Equal(t, want, nearest(name, tables), name)
	}
	require.Equal(t, 3, distance("kitten", "sitting"))
}
