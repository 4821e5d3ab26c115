package rpc

import pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"

// dashboardServer has no handlers yet, see pending.
type dashboardServer struct {
	pb.UnimplementedDashboardServiceServer
}
