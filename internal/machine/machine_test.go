package machine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestASamplerKnowsTheMachineAndTheLastTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := machine.NewSampler(time.Now())
		first := s.Performance()
		require.NotEmpty(t, first.Machine.Hostname)
		require.NotEmpty(t, first.Machine.Release)
		require.Positive(t, first.Machine.Cores)
		require.Positive(t, first.Machine.MemoryBytes)
		require.Positive(t, first.Current.ProcessRSSBytes)
		require.Positive(t, first.Current.MemoryPercent)
		require.Positive(t, first.Current.Goroutines)
		require.Empty(t, first.History)

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		<-time.After(time.Hour + time.Second)
		later := s.Performance()
		require.Len(t, later.History, 119)
		require.Equal(t, time.Hour+time.Second, later.Uptime)
		for _, sample := range later.History {
			require.GreaterOrEqual(t, sample.CPUPercent, 0.0)
			require.LessOrEqual(t, sample.CPUPercent, 100.0)
		}
		require.True(t, later.History[0].Time.Before(later.Current.Time))
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}
