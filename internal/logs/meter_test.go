package logs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
)

const mib = 1 << 20

// progressOf runs work in a bubble and returns the lines it made.
func progressOf(t *testing.T, work func(r *logs.Recorder)) []string {
	t.Helper()
	var messages []string
	synctest.Test(t, func(t *testing.T) {
		r := logs.NewRecorder(logs.RecorderConfig{})
		work(r)
		lines, err := r.Close(context.Background())
		require.NoError(t, err)
		for _, l := range lines {
			messages = append(messages, l.Message)
		}
	})
	return messages
}

func TestProgressBecomesALineOnEachTenthAndElseEveryFiveSeconds(t *testing.T) {
	lines := progressOf(t, func(r *logs.Recorder) {
		r.Phase("dumped")
		for i := int64(1); i <= 200; i++ { // 20 s at 17 MiB in 100 ms
			pass(100 * time.Millisecond)
			r.Progress(engine.Progress{BytesDone: i * 17 * mib, BytesTotal: 3400 * mib})
		}
	})
	require.Equal(t, []string{
		"dumped 340 MiB of about 3.3 GiB (10 %), 170 MiB/s, 18 s left",
		"dumped 680 MiB of about 3.3 GiB (20 %), 170 MiB/s, 16 s left",
	}, lines[:2])
	require.Len(t, lines, 10)
	require.Equal(t, "dumped 3.3 GiB of about 3.3 GiB (100 %), 170 MiB/s, 0 s left", lines[9])
}

func TestSlowProgressComesEveryFiveSeconds(t *testing.T) {
	lines := progressOf(t, func(r *logs.Recorder) {
		r.Phase("restored")
		for i := int64(1); i <= 300; i++ { // 30 s
			pass(100 * time.Millisecond)
			r.Progress(engine.Progress{BytesDone: i * 1024, TablesDone: int(i / 100), TablesTotal: 40})
		}
	})
	require.Len(t, lines, 6)
	require.Equal(t, "restored 50.0 KiB (0 %), 0 of 40 tables, 10.0 KiB/s", lines[0])
}

func TestThePaceOfAPrefaceIsNoForecast(t *testing.T) {
	lines := progressOf(t, func(r *logs.Recorder) {
		r.Phase("dumped")
		pass(time.Second)
		r.Progress(engine.Progress{BytesDone: 4096, BytesTotal: 100 * mib})
		pass(100 * time.Millisecond)
		r.Progress(engine.Progress{BytesDone: 10 * mib, BytesTotal: 100 * mib})
		pass(900 * time.Millisecond)
		r.Progress(engine.Progress{BytesDone: 20 * mib, BytesTotal: 100 * mib})
	})
	require.Equal(t, []string{
		"dumped 10.0 MiB of about 100 MiB (10 %)",
		"dumped 20.0 MiB of about 100 MiB (20 %), 20.0 MiB/s, 4 s left",
	}, lines)
}

func TestAnEstimateThatWasTooLowIsNotHeldAgainstTheFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := logs.NewRecorder(logs.RecorderConfig{})
		r.Phase("dumped")
		pass(6 * time.Second)
		r.Progress(engine.Progress{BytesDone: 300 * mib, BytesTotal: 200 * mib})
		n := r.Numbers()
		require.InDelta(t, 99, *n.Percent, 0)
		require.Nil(t, n.ETA)
		lines, err := r.Close(context.Background())
		require.NoError(t, err)
		require.Equal(t, "dumped 300 MiB (99 %), 50.0 MiB/s", lines[0].Message)
	})
}

func TestTheRateIsSmoothAndFallsWhenNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := logs.NewRecorder(logs.RecorderConfig{})
		r.Phase("dumped")
		require.Zero(t, r.Numbers().Rate)
		for i := int64(1); i <= 100; i++ {
			pass(100 * time.Millisecond)
			r.Progress(engine.Progress{BytesDone: i * mib, BytesTotal: 1000 * mib})
		}
		n := r.Numbers()
		require.InDelta(t, 10*mib, n.Rate, mib/10)
		require.InDelta(t, 90, n.ETA.Seconds(), 2)
		require.InDelta(t, 10, *n.Percent, 0)
		require.EqualValues(t, 1000*mib, *n.BytesTotal)

		r.Progress(engine.Progress{BytesDone: 50 * mib, BytesTotal: 1000 * mib}) // overtaken by a later one
		require.EqualValues(t, 100*mib, r.Numbers().BytesDone)

		pass(5 * time.Second)
		require.Less(t, r.Numbers().Rate, 5.0*mib)
		pass(time.Hour)
		require.Less(t, r.Numbers().Rate, 1.0)
		require.Nil(t, r.Numbers().ETA)

		r.Phase("uploaded")
		require.Zero(t, r.Numbers())
		_, err := r.Close(context.Background())
		require.NoError(t, err)
	})
}

func TestSizesAndDurationsAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 210 * mib: "210 MiB", 1288490189: "1.2 GiB", 1<<63 - 1: "8.0 EiB"} {
		require.Equal(t, want, logs.HumanBytes(n))
	}
	for d, want := range map[time.Duration]string{
		0: "0 s", 400 * time.Millisecond: "0 s", 11 * time.Second: "11 s", time.Minute: "1 min", 200 * time.Second: "3 min 20 s",
		2*time.Hour + 5*time.Minute + 7*time.Second: "2 h 5 min", 76 * time.Hour: "3 d 4 h", -time.Second: "0 s",
	} {
		require.Equal(t, want, logs.HumanDuration(d))
	}
}
