package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newOverview() *cobra.Command {
	c := &cobra.Command{Use: "overview", Short: "Show everything on one page", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			o, err := c.dashboard.GetOverview(cmd.Context(), &pb.GetOverviewRequest{})
			if err != nil {
				return err
			}
			return show(cmd, o, func() *table { return overviewTable(o) })
		})}
	addClientFlags(c)
	return c
}

func overviewTable(o *pb.Overview) *table {
	t := newTable()
	s := o.GetStats()
	t.add("Datasources", fmt.Sprintf("%d, %d healthy", s.GetDatasourcesTotal(), s.GetDatasourcesHealthy()))
	t.add("Storages", fmt.Sprintf("%d, %d healthy", s.GetStoragesTotal(), s.GetStoragesHealthy()))
	t.add("Jobs", fmt.Sprintf("%d, %d enabled", s.GetJobsTotal(), s.GetJobsEnabled()))
	t.add("Executions today", fmt.Sprintf("%d, %d failed", s.GetExecutionsToday(), s.GetExecutionsFailedToday()))
	rate := none
	if s.SuccessRate_24H != nil {
		rate = fmt.Sprintf("%.1f %%", s.GetSuccessRate_24H())
	}
	t.add("Ended well in 24 hours", rate)
	t.add("Database, Redis", o.GetServices().GetDatabase().String()+", "+o.GetServices().GetRedis().String())
	w := o.GetServices().GetWorkers()
	t.add("Workers", fmt.Sprintf("backup %s, restore %s, scheduler %s, health %s, cleanup %s",
		w.GetBackup(), w.GetRestore(), w.GetScheduler(), w.GetHealth(), w.GetCleanup()))
	for _, d := range o.GetDatasourceHealth() {
		if d.GetStatus() == pb.Datasource_critical || d.GetStatus() == pb.Datasource_warning {
			t.add("Trouble with "+d.GetName(), d.GetStatus().String())
		}
	}
	for _, e := range o.GetRecentExecutions() {
		t.add(when(e.GetCreatedAt()), strings.TrimSpace(fmt.Sprintf("%s of %s %s", e.GetOperation(), e.GetDatasourceName(), e.GetStatus())))
	}
	for _, j := range o.GetUpcomingJobs() {
		t.add("Next "+when(j.GetNextExecutionAt()), j.GetName()+" of "+j.GetDatasourceName())
	}
	return t
}
