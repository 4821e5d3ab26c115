package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newHealth() *cobra.Command {
	c := &cobra.Command{Use: "health", Short: "Show whether the control plane works; fails when it does not", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			h, err := c.health.GetHealth(cmd.Context(), &pb.GetHealthRequest{})
			if err != nil {
				return err
			}
			if err := show(cmd, h, func() *table { return healthTable(h) }); err != nil {
				return err
			}
			if h.GetStatus() != pb.Health_ok {
				return errors.New("the control plane is degraded")
			}
			return nil
		})}
	addClientFlags(c)
	return c
}

func healthTable(h *pb.Health) *table {
	t := newTable()
	t.add("Status", h.GetStatus().String())
	t.add("Version", h.GetVersion())
	t.add("Up", seconds(float64(h.GetUptimeSeconds())))
	t.add("Database", h.GetServices().GetDatabase().String())
	t.add("Redis", h.GetServices().GetRedis().String())
	for _, role := range sortedKeys(h.GetWorkerDetails()) {
		w := h.GetWorkerDetails()[role]
		text := fmt.Sprintf("%s, %s", w.GetStatus(), count(w.GetInstances(), "instance"))
		if w.LastError != nil {
			text += ", last error: " + w.GetLastError()
		}
		t.add("Worker "+role, text)
	}
	s := h.GetStats()
	t.add("Datasources", fmt.Sprintf("%d, %d healthy, %d critical", s.GetDatasourcesTotal(), s.GetDatasourcesHealthy(), s.GetDatasourcesCritical()))
	t.add("Jobs", fmt.Sprintf("%d, %d enabled", s.GetJobsTotal(), s.GetJobsEnabled()))
	t.add("Executions today", fmt.Sprintf("%d, %d failed", s.GetExecutionsToday(), s.GetExecutionsFailedToday()))
	t.add("Notifications", fmt.Sprintf("%d wait for their channels, %d for more than 15 minutes", s.GetNotificationsPending(), s.GetNotificationsStuck()))
	return t
}
