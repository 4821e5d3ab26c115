package health_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
)

func latency(ms int) health.Check { return health.Check{Outcome: health.OK, LatencyMS: &ms} }

func TestADatasourceChangesItsStatusAfterSomeChecksThatSayTheSame(t *testing.T) {
	good, slow, bad := latency(3), latency(6000), health.Check{Outcome: health.Timeout}
	for name, c := range map[string]struct {
		from   datasource.Status
		checks []health.Check
		want   []datasource.Status
	}{
		"a new one is healthy at once":   {datasource.Unknown, []health.Check{good}, []datasource.Status{datasource.Healthy}},
		"a new one that never answers":   {datasource.Unknown, []health.Check{bad, bad, bad}, []datasource.Status{datasource.Unknown, datasource.Unknown, datasource.Critical}},
		"a flake":                        {datasource.Healthy, []health.Check{bad, bad, good}, []datasource.Status{datasource.Healthy, datasource.Healthy, datasource.Healthy}},
		"slowness":                       {datasource.Healthy, []health.Check{slow, slow, slow}, []datasource.Status{datasource.Healthy, datasource.Healthy, datasource.Warning}},
		"back for good":                  {datasource.Critical, []health.Check{good, good}, []datasource.Status{datasource.Critical, datasource.Healthy}},
		"back for a moment":              {datasource.Critical, []health.Check{good, bad, good}, []datasource.Status{datasource.Critical, datasource.Critical, datasource.Critical}},
		"slow and failing in turns stay": {datasource.Healthy, []health.Check{slow, bad, slow, bad}, []datasource.Status{datasource.Healthy, datasource.Healthy, datasource.Healthy, datasource.Healthy}},
	} {
		t.Run(name, func(t *testing.T) {
			status, streak := c.from, health.Streak{}
			for i, check := range c.checks {
				status, streak = health.Rules{}.Datasource(status, streak, check)
				require.Equal(t, c.want[i], status, "check %d", i+1)
			}
		})
	}
}

func TestAStorageIsFullAtOnceAndFreeOnlyWellAboveTheThreshold(t *testing.T) {
	rules := health.Rules{FullBelow: 100, LowBelow: 1000, Successes: 1}
	status, streak, low := location.Healthy, health.Streak{}, false
	for i, step := range []struct {
		available int64
		status    location.Status
		low       bool
	}{
		{2000, location.Healthy, false}, {999, location.Healthy, true}, {1200, location.Healthy, true}, {1250, location.Healthy, false},
		{99, location.Full, true}, {150, location.Full, true}, {200, location.Healthy, true}, {150, location.Healthy, true},
	} {
		status, streak, low = rules.Storage(status, streak, low, health.Check{Outcome: health.OK, AvailableBytes: &step.available})
		require.Equal(t, step.status, status, "step %d", i+1)
		require.Equal(t, step.low, low, "step %d", i+1)
	}
	status, _, _ = rules.Storage(location.Healthy, streak, low, health.Check{Outcome: health.Error, Full: true})
	require.Equal(t, location.Full, status, "it said so itself")
}

func TestChecksSpreadOverTheIntervalAndComeSoonerWhileInDoubt(t *testing.T) {
	rules := health.Rules{Interval: time.Minute}
	seen := map[time.Duration]bool{}
	for range 200 {
		settled := rules.Pause(health.Streak{Grade: health.Good, Length: 5})
		require.GreaterOrEqual(t, settled, 54*time.Second)
		require.LessOrEqual(t, settled, 66*time.Second)
		seen[settled] = true
		require.LessOrEqual(t, rules.Pause(health.Streak{Grade: health.Bad, Length: 1}), 17*time.Second)
		require.GreaterOrEqual(t, rules.Pause(health.Streak{Grade: health.Bad, Length: 9}), 54*time.Second, "what stays down is not hammered")
	}
	require.Greater(t, len(seen), 100)
}
