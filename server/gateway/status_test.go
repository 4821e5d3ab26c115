package gateway

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// answersOK names the POSTs that make nothing and accept no work: they answer 200.
var answersOK = map[string]string{
	pb.DatasourceService_TestDatasource_FullMethodName:            "tries a connection",
	pb.DatasourceService_QueryDatasource_FullMethodName:           "reads",
	pb.StorageLocationService_TestStorageConfig_FullMethodName:    "tries a storage",
	pb.StorageLocationService_TestStorageLocation_FullMethodName:  "tries a storage",
	pb.StorageLocationService_ImportBackups_FullMethodName:        "says what was found",
	pb.ExecutionService_CancelExecution_FullMethodName:            "says what became of the execution",
	pb.StorageLocationService_CopyStorageFile_FullMethodName:      "shows the copy",
	pb.NotificationService_TestNotificationChannel_FullMethodName: "tries a channel",
	pb.AuthService_SetupFirstUser_FullMethodName:                  "starts the first session",
	pb.AuthService_Login_FullMethodName:                           "starts a session",
	pb.AuthService_Logout_FullMethodName:                          "ends a session",
	pb.AuthService_ChangePassword_FullMethodName:                  "ends every session",
	pb.AuthService_RotateKey_FullMethodName:                       "says what was done",
}

func TestEveryPOSTAndDELETEHasItsStatus(t *testing.T) {
	table, err := readRoutes()
	require.NoError(t, err)
	require.Greater(t, len(table), 50)
	for _, r := range table {
		status := SuccessStatus(r.name)
		_, exempt := answersOK[r.name]
		switch r.verb {
		case http.MethodPost:
			require.Equal(t, exempt, status == http.StatusOK, "%s answers %d", r.name, status)
			require.Contains(t, []int{http.StatusOK, http.StatusCreated, http.StatusAccepted}, status, r.name)
		case http.MethodDelete:
			require.Equal(t, http.StatusNoContent, status, r.name)
		default:
			require.Equal(t, http.StatusOK, status, r.name)
		}
	}
}

func TestEveryRouteIsFoundByWhatTheMuxPrints(t *testing.T) {
	table, err := readRoutes()
	require.NoError(t, err)
	for key, r := range table {
		require.Equal(t, key, r.verb+" "+r.pattern())
		require.True(t, r.matches(r.path))
		require.Contains(t, table.methods(r.path), r.verb)
	}
	require.Equal(t, []string{"DELETE", "GET", "PUT"}, table.methods("/api/datasources/1"))
	require.Equal(t, []string{"GET", "POST"}, table.methods("/api/datasources"))
	require.Empty(t, table.methods("/api/nothing"))
}
