package rpc

import pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"

// auditServer has no handlers yet, see pending.
type auditServer struct {
	pb.UnimplementedAuditServiceServer
}
