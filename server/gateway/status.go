package gateway

import (
	"net/http"

	dataguardianv1 "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// SuccessStatus is the HTTP status of a call that succeeded, by the RPC's full
// method name ("/dataguardian.v1.BackupService/RunBackupJob"). The REST reference
// is made from it too.
func SuccessStatus(fullMethod string) int {
	switch fullMethod {
	case dataguardianv1.AuthService_CreateToken_FullMethodName,
		dataguardianv1.BackupService_CreateBackupJob_FullMethodName,
		dataguardianv1.DatasourceService_CreateDatasource_FullMethodName,
		dataguardianv1.NotificationService_CreateNotificationChannel_FullMethodName,
		dataguardianv1.StorageLocationService_CreateStorageLocation_FullMethodName:
		return http.StatusCreated
	case dataguardianv1.BackupService_RunBackupJob_FullMethodName,
		dataguardianv1.BackupService_RestoreBackup_FullMethodName,
		dataguardianv1.BackupService_VerifyBackup_FullMethodName,
		dataguardianv1.ExecutionService_RetryUpload_FullMethodName:
		return http.StatusAccepted
	case dataguardianv1.AuthService_RevokeToken_FullMethodName,
		dataguardianv1.BackupService_DeleteBackupJob_FullMethodName,
		dataguardianv1.DatasourceService_DeleteDatasource_FullMethodName,
		dataguardianv1.ExecutionService_DeleteExecution_FullMethodName,
		dataguardianv1.NotificationService_DeleteNotification_FullMethodName,
		dataguardianv1.NotificationService_DeleteNotificationChannel_FullMethodName,
		dataguardianv1.StorageLocationService_DeleteStorageFile_FullMethodName,
		dataguardianv1.StorageLocationService_DeleteStorageLocation_FullMethodName:
		return http.StatusNoContent
	default:
		return http.StatusOK
	}
}
