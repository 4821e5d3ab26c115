package store_test

import (
	"testing"

	"github.com/dataguardian/dataguardian/internal/store/storetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestAnExternalPostgreSQLKeepsEverythingItPromised(t *testing.T) {
	server := testkit.Postgres(t)
	storetest.Run(t, func(t testing.TB) string { return server.DSN(server.NewDatabase(t)) })
}
