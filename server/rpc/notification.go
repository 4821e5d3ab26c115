package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/notification"
)

type notificationServer struct {
	pb.UnimplementedNotificationServiceServer

	notifications Notifications
	channels      Channels
	feed          NotificationFeed
}

func (s *notificationServer) ListNotifications(ctx context.Context, req *pb.ListNotificationsRequest) (*pb.ListNotificationsResponse, error) {
	page := pageOf(req)
	filter := notification.Filter{
		Read: req.Read, Severity: fromEnum[notification.Severity](req.GetSeverity()), Type: fromEnum[notification.Type](req.GetType()),
	}
	rows, total, unread, err := s.notifications.List(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	data, err := tryMapped(rows, notificationRow)
	if err != nil {
		return nil, err
	}
	return &pb.ListNotificationsResponse{Data: data, Pagination: pagination(page, total), UnreadCount: count(unread)}, nil
}

func (s *notificationServer) MarkNotificationRead(ctx context.Context, req *pb.MarkNotificationReadRequest) (*pb.MarkNotificationReadResponse, error) {
	n, err := s.notifications.MarkRead(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.MarkNotificationReadResponse{Id: n.ID, ReadAt: timestamp(n.ReadAt)}, nil
}

func (s *notificationServer) MarkAllNotificationsRead(ctx context.Context, _ *pb.MarkAllNotificationsReadRequest) (*pb.MarkAllNotificationsReadResponse, error) {
	n, err := s.notifications.MarkAllRead(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.MarkAllNotificationsReadResponse{UpdatedCount: count(n)}, nil
}

func (s *notificationServer) DeleteNotification(ctx context.Context, req *pb.DeleteNotificationRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.notifications.Delete(ctx, req.GetId())
}
