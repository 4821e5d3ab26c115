package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/notification"
)

// WatchNotifications sends its header as soon as the first event says that the
// stream is on.
func (s *notificationServer) WatchNotifications(req *pb.WatchNotificationsRequest, stream grpc.ServerStreamingServer[pb.WatchNotificationsResponse]) error {
	ctx := stream.Context()
	watch := notification.WatchRequest{
		After: req.After, MinSeverity: fromEnum[notification.Severity](req.GetMinSeverity()), Type: fromEnum[notification.Type](req.GetType()),
	}
	begun := false
	for event, err := range s.feed.Watch(ctx, watch) {
		if err != nil {
			return err
		}
		message, err := watchEvent(event)
		if err != nil {
			return err
		}
		if !begun {
			begun = true
			if err := stream.SendHeader(metadata.Pairs(StreamHeader, "open")); err != nil {
				return err
			}
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (s *notificationServer) ListNotificationChannels(ctx context.Context, req *pb.ListNotificationChannelsRequest) (*pb.ListNotificationChannelsResponse, error) {
	page := pageOf(req)
	rows, total, err := s.channels.List(ctx, page)
	if err != nil {
		return nil, err
	}
	data, err := tryMapped(rows, channelDetail)
	if err != nil {
		return nil, err
	}
	return &pb.ListNotificationChannelsResponse{Data: data, Pagination: pagination(page, total)}, nil
}

func (s *notificationServer) CreateNotificationChannel(ctx context.Context, req *pb.CreateNotificationChannelRequest) (*pb.NotificationChannel, error) {
	c, err := s.channels.Create(ctx, notification.NewChannel{
		Name: req.GetName(), Type: req.GetType(), Config: configFrom(req.GetConfig()), Types: mapped(req.GetTypes(), fromEnum[notification.Type, pb.Notification_Type]),
		MinSeverity: fromEnum[notification.Severity](req.GetMinSeverity()), Enabled: req.Enabled, MaxPerHour: int(req.GetMaxPerHour()),
	})
	if err != nil {
		return nil, err
	}
	return channelDetail(c)
}

func (s *notificationServer) GetNotificationChannel(ctx context.Context, req *pb.GetNotificationChannelRequest) (*pb.NotificationChannel, error) {
	c, err := s.channels.Get(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return channelDetail(c)
}

func (s *notificationServer) UpdateNotificationChannel(ctx context.Context, req *pb.UpdateNotificationChannelRequest) (*pb.NotificationChannel, error) {
	types, err := typesFrom(req.GetTypes())
	if err != nil {
		return nil, err
	}
	c, err := s.channels.Update(ctx, req.GetId(), notification.ChannelPatch{
		Name: req.Name, Config: configFrom(req.GetConfig()), Types: types,
		MinSeverity: fromEnum[notification.Severity](req.GetMinSeverity()), Enabled: req.Enabled, MaxPerHour: intFrom(req.MaxPerHour),
	})
	if err != nil {
		return nil, err
	}
	return channelDetail(c)
}

// typesFrom reads the list that replaces a filter; nil when none was sent.
func typesFrom(list *structpb.ListValue) (*[]notification.Type, error) {
	if list == nil {
		return nil, nil
	}
	types := []notification.Type{}
	for _, value := range list.GetValues() {
		word := value.GetStringValue()
		if toEnum[pb.Notification_Type](notification.Type(word)) == pb.Notification_type_unspecified {
			return nil, errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "types", Message: "must be a list of notification types, such as backup_failed"})
		}
		types = append(types, notification.Type(word))
	}
	return &types, nil
}

func (s *notificationServer) DeleteNotificationChannel(ctx context.Context, req *pb.DeleteNotificationChannelRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.channels.Delete(ctx, req.GetId())
}

func (s *notificationServer) TestNotificationChannel(ctx context.Context, req *pb.TestNotificationChannelRequest) (*pb.TestNotificationChannelResponse, error) {
	failed, err := s.channels.Test(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return &pb.TestNotificationChannelResponse{
			Status: pb.TestResult_error, Error: proto.String(errs.Message(failed)), ErrorCode: proto.String(string(errs.CodeOf(failed))),
		}, nil
	}
	return &pb.TestNotificationChannelResponse{Status: pb.TestResult_ok}, nil
}

func (s *notificationServer) ListNotificationDeliveries(ctx context.Context, req *pb.ListNotificationDeliveriesRequest) (*pb.ListNotificationDeliveriesResponse, error) {
	page := pageOf(req)
	rows, total, err := s.channels.Deliveries(ctx, req.GetId(), fromEnum[notification.DeliveryStatus](req.GetStatus()), page)
	if err != nil {
		return nil, err
	}
	return &pb.ListNotificationDeliveriesResponse{Data: mapped(rows, delivery), Pagination: pagination(page, total)}, nil
}

func (s *notificationServer) ListNotificationChannelTypes(context.Context, *pb.ListNotificationChannelTypesRequest) (*pb.ListNotificationChannelTypesResponse, error) {
	return &pb.ListNotificationChannelTypesResponse{Data: mapped(s.channels.Types(), channelType)}, nil
}
