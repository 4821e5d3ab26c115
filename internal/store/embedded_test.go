package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/store/storetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestThePrivateClusterKeepsEverythingItPromised(t *testing.T) {
	cluster, err := embedded.Start(t.Context(), embedded.Config{DataDir: testkit.Dir(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop(context.Background())) })
	var made atomic.Int64
	storetest.Run(t, func(t testing.TB) string {
		name := fmt.Sprint("test_", made.Add(1))
		require.NoError(t, cluster.CreateDatabase(t.Context(), name))
		return cluster.DSN(name)
	})
}
