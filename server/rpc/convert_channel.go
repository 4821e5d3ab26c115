package rpc

import (
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func channelDetail(c notification.Channel) (*pb.NotificationChannel, error) {
	config, err := toStruct(notification.ConfigView(c))
	if err != nil {
		return nil, err
	}
	shown := &pb.NotificationChannel{
		Id: c.ID, Name: c.Name, Type: c.Type, Config: config, Types: mapped(c.Types, toEnum[pb.Notification_Type, notification.Type]),
		MinSeverity: toEnum[pb.Notification_Severity](c.MinSeverity), Enabled: c.Enabled, PendingCount: count(c.Pending), MaxPerHour: count(c.MaxPerHour),
		CreatedAt: moment(c.CreatedAt), UpdatedAt: moment(c.UpdatedAt),
	}
	if c.Last != nil {
		shown.LastDelivery = delivery(*c.Last)
	}
	return shown, nil
}

func delivery(d notification.Delivery) *pb.NotificationDelivery {
	return &pb.NotificationDelivery{
		Id: d.ID, NotificationId: d.NotificationID, Type: toEnum[pb.Notification_Type](d.Type), Severity: toEnum[pb.Notification_Severity](d.Severity),
		Title: d.Title, Status: toEnum[pb.NotificationDelivery_Status](d.Status), Attempts: count(d.Attempts),
		NextAttemptAt: timestamp(d.NextAttemptAt), DeliveredAt: timestamp(d.DeliveredAt), LastError: some(d.LastError), CreatedAt: moment(d.CreatedAt),
	}
}

func channelType(t notification.ChannelType) *pb.NotificationChannelType {
	shown := &pb.NotificationChannelType{Name: t.Name, Title: t.Title, Family: t.Family}
	for _, f := range t.Fields {
		shown.Fields = append(shown.Fields, &pb.NotificationChannelType_Field{
			Name: f.Name, Kind: toEnum[pb.NotificationChannelType_Field_Kind](f.Kind), Required: f.Required, Secret: f.Secret, Place: f.Place,
			Default: f.Default, Choices: f.Choices, Help: f.Help,
		})
	}
	return shown
}

func watchEvent(e notification.WatchEvent) (*pb.WatchNotificationsResponse, error) {
	shown := &pb.WatchNotificationsResponse{Id: strconv.FormatInt(e.Seq, 10)}
	if e.Notification == nil {
		shown.Event = &pb.WatchNotificationsResponse_Heartbeat_{Heartbeat: &pb.WatchNotificationsResponse_Heartbeat{Ts: timestamppb.Now()}}
		return shown, nil
	}
	row, err := notificationRow(*e.Notification)
	if err != nil {
		return nil, err
	}
	shown.Event = &pb.WatchNotificationsResponse_Notification{Notification: row}
	return shown, nil
}
