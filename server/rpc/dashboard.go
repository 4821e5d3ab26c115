package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/machine"
)

type dashboardServer struct {
	pb.UnimplementedDashboardServiceServer

	dashboard Dashboard
}

func (s *dashboardServer) GetOverview(ctx context.Context, _ *pb.GetOverviewRequest) (*pb.Overview, error) {
	o, err := s.dashboard.Overview(ctx)
	if err != nil {
		return nil, err
	}
	return overview(o), nil
}

func overview(o dashboard.Overview) *pb.Overview {
	return &pb.Overview{
		GeneratedAt: moment(o.GeneratedAt), Stats: overviewStats(o.Stats), Services: services(o.Services),
		RecentExecutions: mapped(o.Recent, recentExecution), UpcomingJobs: mapped(o.Upcoming, upcomingJob),
		DatasourceHealth: mapped(o.Datasources, datasourceHealth), ExecutionsByDay: mapped(o.Days, day), Performance: performance(o.Performance),
	}
}

func overviewStats(s dashboard.Stats) *pb.Overview_Stats {
	shown := &pb.Overview_Stats{
		DatasourcesTotal: count(s.DatasourcesTotal), DatasourcesHealthy: count(s.DatasourcesHealthy),
		JobsTotal: count(s.JobsTotal), JobsEnabled: count(s.JobsEnabled), StoragesTotal: count(s.StoragesTotal), StoragesHealthy: count(s.StoragesHealthy),
		ExecutionsToday: count(s.ExecutionsToday), ExecutionsFailedToday: count(s.ExecutionsFailedToday), Executions_24HTotal: count(s.Created24h),
	}
	if rate, ok := s.SuccessRate(); ok {
		shown.SuccessRate_24H = proto.Float64(rate)
	}
	return shown
}

func recentExecution(r dashboard.Recent) *pb.Overview_RecentExecution {
	shown := &pb.Overview_RecentExecution{
		Id: r.ID, DatasourceName: r.DatasourceName, DatasourceType: toEnum[pb.Datasource_Type](r.DatasourceType), JobName: r.JobName,
		Operation: toEnum[pb.Execution_Operation](r.Operation), Status: toEnum[pb.Execution_Status](r.Status),
		SizeBytes: r.SizeBytes, CompressedSizeBytes: r.StoredBytes,
		StartedAt: timestamp(r.StartedAt), FinishedAt: timestamp(r.FinishedAt), CreatedAt: moment(r.CreatedAt),
	}
	if r.StartedAt != nil {
		end := time.Now()
		if r.FinishedAt != nil {
			end = *r.FinishedAt
		}
		shown.DurationSeconds = proto.Float64(max(end.Sub(*r.StartedAt), 0).Seconds())
	}
	return shown
}

func upcomingJob(u dashboard.Upcoming) *pb.Overview_UpcomingJob {
	return &pb.Overview_UpcomingJob{
		Id: u.ID, Name: u.Name, ScheduleCron: u.ScheduleCron, ScheduleTimezone: u.ScheduleTimezone, NextExecutionAt: moment(u.NextExecutionAt),
		Enabled: u.Enabled, DatasourceName: u.DatasourceName, DatasourceType: toEnum[pb.Datasource_Type](u.DatasourceType),
	}
}

func datasourceHealth(d dashboard.DatasourceHealth) *pb.Overview_DatasourceHealth {
	shown := &pb.Overview_DatasourceHealth{
		Id: d.ID, Name: d.Name, Status: toEnum[pb.Datasource_Status](d.Status), LatencyMs: toInt32(d.LatencyMS), LastHealthCheckAt: timestamp(d.LastCheckedAt),
	}
	if d.Outcome != "" {
		shown.HealthStatus = toEnum[pb.DatasourceHealthEntry_Status](d.Outcome).Enum()
	}
	return shown
}

func day(d dashboard.Day) *pb.Overview_Day {
	return &pb.Overview_Day{
		Date: d.Date, Total: count(d.Total), Completed: count(d.Completed), Failed: count(d.Failed), Cancelled: count(d.Cancelled),
		Running: count(d.Running), Queued: count(d.Queued),
	}
}

func performance(p machine.Performance) *pb.Overview_Performance {
	m := p.Machine
	return &pb.Overview_Performance{
		Machine: &pb.Overview_Machine{
			Hostname: m.Hostname, Platform: m.Platform, Release: m.Release, Arch: m.Arch, CpuCores: count(m.Cores), TotalMemoryBytes: m.MemoryBytes,
			ProcessUptimeSeconds: int64(p.Uptime.Seconds()), GoVersion: m.GoVersion,
		},
		Current: sample(p.Current), History: mapped(p.History, sample),
	}
}

func sample(s machine.Sample) *pb.Overview_Sample {
	return &pb.Overview_Sample{
		Ts: moment(s.Time), CpuPercent: s.CPUPercent, MemoryUsagePercent: s.MemoryPercent, ProcessCpuPercent: s.ProcessCPUPercent,
		ProcessMemoryRssBytes: s.ProcessRSSBytes, Goroutines: count(s.Goroutines),
	}
}
