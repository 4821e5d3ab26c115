package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
)

// plane is a control plane with one of everything.
type plane struct{ down bool }

func (p plane) Get(context.Context) health.Report {
	return health.Report{DatabaseOK: !p.down, RedisOK: true, Workers: health.Summarise(nil), Stats: health.Stats{DatasourcesTotal: 3, DatasourcesHealthy: 2}}
}

func (plane) Gauges(context.Context) (health.Gauges, error) {
	at, free := time.Unix(1_700_000_000, 0), int64(1<<30)
	return health.Gauges{
		Queues:   []health.QueueGauge{{Operation: execution.Backup, Queued: 2, Running: 1, Oldest: 90 * time.Second}},
		Outbox:   []health.OutboxGauge{{ChannelType: "slack", Pending: 3, Oldest: time.Minute}},
		Storages: []health.StorageGauge{{Name: "disk", Status: location.Healthy, AvailableBytes: &free}, {Name: "cloud", Status: location.Unreachable}},
		Jobs:     []health.JobGauge{{Name: "nightly", Datasource: "shop", CreatedAt: at, LastSuccess: &at}, {Name: "new", Datasource: "shop", CreatedAt: at}},
	}, nil
}

// full is a process in which everything has happened once.
func full() *Metrics {
	m := New("1.2.3")
	m.Watch(plane{})
	size := int64(1000)
	m.Ended(execution.Execution{Operation: execution.Backup}, execution.Result{Status: execution.Completed, SizeBytes: &size, StoredBytes: &size}, time.Minute)
	m.Missed(2)
	m.LeaseLost(execution.Backup)
	m.Reaped(execution.Backup, execution.Queued)
	m.UploadRetried()
	m.LogLag(time.Second)
	m.Channels("slack", "smtp")
	m.Attempted("slack", nil, false)
	m.Attempted("slack", errors.New("x"), false)
	m.Attempted("smtp", errors.New("x"), true)
	return m
}

func scrape(m *Metrics) string {
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

func TestAScrapeTellsWhatHappenedHereAndHowTheFleetDoes(t *testing.T) {
	text := scrape(full())
	for _, line := range []string{
		`dataguardian_build_info{version="1.2.3"} 1`, `dataguardian_database_up 1`, `dataguardian_datasources{status="other"} 1`,
		`dataguardian_executions_ended_total{operation="backup",status="completed"} 1`, `dataguardian_executions_ended_total{operation="restore",status="failed"} 0`,
		`dataguardian_notification_attempts_total{channel_type="slack",result="delivered"} 1`, `dataguardian_notification_attempts_total{channel_type="slack",result="failed"} 1`,
		`dataguardian_notification_attempts_total{channel_type="smtp",result="given_up"} 1`, `dataguardian_notification_attempts_total{channel_type="smtp",result="delivered"} 0`,
		`dataguardian_notification_pending{channel_type="slack"} 3`, `dataguardian_notification_oldest_pending_seconds{channel_type="slack"} 60`,
		`dataguardian_missed_runs_total 2`, `dataguardian_lease_losses_total{operation="backup"} 1`, `dataguardian_upload_retries_total 1`,
		`dataguardian_queue_executions{operation="backup"} 2`, `dataguardian_queue_executions{operation="verify"} 0`,
		`dataguardian_queue_oldest_seconds{operation="backup"} 90`, `dataguardian_storage_available_bytes{storage="disk"} 1.073741824e+09`,
		`dataguardian_storage_healthy{storage="cloud"} 0`, `dataguardian_job_last_success_timestamp_seconds{backup_job="nightly",datasource="shop"} 1.7e+09`,
		`dataguardian_job_created_timestamp_seconds{backup_job="new",datasource="shop"} 1.7e+09`, `dataguardian_log_lag_seconds_count 1`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.NotContains(t, text, `dataguardian_job_last_success_timestamp_seconds{backup_job="new"`)
}

// asked is a plane that counts who asks.
type asked struct {
	plane

	gauges atomic.Int32
}

func (a *asked) Gauges(ctx context.Context) (health.Gauges, error) {
	a.gauges.Add(1)
	return a.plane.Gauges(ctx)
}

func TestAFloodOfScrapesAsksTheDatabaseOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, fleet := New("1"), &asked{}
		m.Watch(fleet)
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() { assert.Contains(t, scrape(m), "dataguardian_database_up 1\n") })
		}
		group.Wait()
		require.EqualValues(t, 1, fleet.gauges.Load())
		<-time.After(scrapeKept)
		scrape(m)
		require.EqualValues(t, 2, fleet.gauges.Load())
	})
}

func TestWhatIsUnknownIsNotZero(t *testing.T) {
	m := New("1")
	m.Watch(plane{down: true})
	text := scrape(m)
	require.Contains(t, text, "dataguardian_database_up 0\n")
	for _, name := range []string{"dataguardian_jobs", "dataguardian_queue_executions", "dataguardian_datasources"} {
		require.NotContains(t, text, name)
	}
}

var ours = regexp.MustCompile(`dataguardian_[a-z0-9_]+`)

// names lists the series of a scrape, without the suffixes that histograms add.
func names(t *testing.T) []string {
	t.Helper()
	families, err := full().registry.Gather()
	require.NoError(t, err)
	var all []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), namespace+"_") {
			all = append(all, f.GetName())
			require.NotEmpty(t, f.GetHelp())
		}
	}
	return all
}

func requireRealNames(t *testing.T, expressions []string) {
	t.Helper()
	real := names(t)
	require.NotEmpty(t, expressions)
	for _, e := range expressions {
		used := ours.FindAllString(e, -1)
		require.NotEmpty(t, used, "%q asks for nothing of ours", e)
		for _, name := range used {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			require.True(t, slices.Contains(real, name) || slices.Contains(real, base), "%q names %s, which is not among %v", e, name, real)
		}
		require.Equal(t, strings.Count(e, "("), strings.Count(e, ")"), e)
		require.Equal(t, strings.Count(e, "{"), strings.Count(e, "}"), e)
	}
}

func TestTheExampleAlertsNameWhatIsThere(t *testing.T) {
	raw, err := os.ReadFile("../../docs/deploy/alerts.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(raw)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	var expressions []string
	for _, g := range file.Groups {
		require.NotEmpty(t, g.Name)
		for _, r := range g.Rules {
			require.NotEmpty(t, r.Alert)
			require.Contains(t, []string{"warning", "critical"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			require.NotEmpty(t, r.Annotations["description"], r.Alert)
			if r.For != "" {
				_, err := time.ParseDuration(r.For)
				require.NoError(t, err, r.Alert)
			}
			expressions = append(expressions, r.Expr)
		}
	}
	require.Greater(t, len(expressions), 10)
	requireRealNames(t, expressions)
}

func TestTheExampleDashboardShowsWhatIsThere(t *testing.T) {
	raw, err := os.ReadFile("../../docs/deploy/grafana.json")
	require.NoError(t, err)
	var board struct {
		Title  string `json:"title"`
		Panels []struct {
			ID      int            `json:"id"`
			Title   string         `json:"title"`
			Type    string         `json:"type"`
			GridPos map[string]int `json:"gridPos"`
			Targets []struct {
				Expr  string `json:"expr"`
				RefID string `json:"refId"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(raw, &board))
	require.NotEmpty(t, board.Title)
	seen := map[int]bool{}
	var expressions []string
	for _, p := range board.Panels {
		require.False(t, seen[p.ID], "panel %d is there twice", p.ID)
		seen[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.Len(t, p.GridPos, 4)
		for _, target := range p.Targets {
			require.NotEmpty(t, target.RefID)
			expressions = append(expressions, target.Expr)
		}
	}
	requireRealNames(t, expressions)
}
