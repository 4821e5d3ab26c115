package rpc

import (
	"context"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/audit"
)

type auditServer struct {
	pb.UnimplementedAuditServiceServer

	trail AuditLogs
}

func (s *auditServer) ListAuditLogs(ctx context.Context, req *pb.ListAuditLogsRequest) (*pb.ListAuditLogsResponse, error) {
	page := pageOf(req)
	filter := audit.Filter{
		Actor: req.GetActor(), Action: req.GetAction(), EntityType: req.GetEntityType(), EntityID: req.GetEntityId(), Outcome: req.GetOutcome(),
		From: timeFrom(req.GetFrom()), To: timeFrom(req.GetTo()),
	}
	rows, total, err := s.trail.List(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	data, err := tryMapped(rows, auditLog)
	if err != nil {
		return nil, err
	}
	return &pb.ListAuditLogsResponse{Data: data, Pagination: pagination(page, total)}, nil
}

func auditLog(e audit.Entry) (*pb.AuditLog, error) {
	metadata, err := toStruct(e.Metadata)
	if err != nil {
		return nil, err
	}
	return &pb.AuditLog{
		Id: e.ID, Actor: e.Actor, Action: e.Action, EntityType: e.EntityType, EntityId: some(e.EntityID), Address: e.Address,
		Outcome: e.Outcome, Metadata: metadata, CreatedAt: moment(e.CreatedAt), Count: count(e.Count), RequestId: e.RequestID,
	}, nil
}
