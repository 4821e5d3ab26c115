package gateway

import (
	"net/http"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// SuccessStatus is the HTTP status of a call that succeeded, by the RPC's full
// method name ("/dataguardian.v1.BackupService/RunBackupJob"). The REST reference
// is made from it too.
func SuccessStatus(fullMethod string) int {
	switch fullMethod {
	case pb.AuthService_CreateToken_FullMethodName,
		pb.AuthService_CreateUser_FullMethodName,
		pb.BackupService_CreateBackupJob_FullMethodName,
		pb.DatasourceService_CreateDatasource_FullMethodName,
		pb.NotificationService_CreateNotificationChannel_FullMethodName,
		pb.StorageLocationService_CreateStorageLocation_FullMethodName:
		return http.StatusCreated
	case pb.BackupService_RunBackupJob_FullMethodName,
		pb.BackupService_RestoreBackup_FullMethodName,
		pb.BackupService_VerifyBackup_FullMethodName,
		pb.ExecutionService_RetryUpload_FullMethodName:
		return http.StatusAccepted
	case pb.AuthService_RevokeToken_FullMethodName,
		pb.AuthService_DeleteUser_FullMethodName,
		pb.BackupService_DeleteBackupJob_FullMethodName,
		pb.DatasourceService_DeleteDatasource_FullMethodName,
		pb.ExecutionService_DeleteExecution_FullMethodName,
		pb.NotificationService_DeleteNotification_FullMethodName,
		pb.NotificationService_DeleteNotificationChannel_FullMethodName,
		pb.StorageLocationService_DeleteStorageFile_FullMethodName,
		pb.StorageLocationService_DeleteStorageLocation_FullMethodName:
		return http.StatusNoContent
	default:
		return http.StatusOK
	}
}
