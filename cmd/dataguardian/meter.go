package main

import (
	"time"

	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// meterPause is between two drawings of the bar.
const meterPause = 100 * time.Millisecond

// meter shows how far a transfer is, on a terminal; elsewhere nothing.
type meter struct {
	screen *screen
	began  time.Time
	drawn  time.Time
	done   int64
	total  int64 // bytes; 0 when unknown
}

func newMeter(cmd *cobra.Command, total int64) *meter {
	return &meter{screen: newScreen(cmd.ErrOrStderr()), began: time.Now(), total: total}
}

// moved counts bytes.
func (m *meter) moved(n int) {
	m.done += int64(n)
	if time.Since(m.drawn) < meterPause {
		return
	}
	m.drawn = time.Now()
	p := &pb.StreamExecutionLogsResponse_Progress{
		Phase: "downloading", BytesDone: m.done, RateBytesPerS: float64(m.done) / max(time.Since(m.began).Seconds(), 0.001),
	}
	if m.total > 0 {
		done := min(m.done, m.total) // the tar is a little larger than the parts
		left := float64(m.total-done) / max(p.RateBytesPerS, 1)
		p.Percent, p.EtaSeconds = new(100*float64(done)/float64(m.total)), &left
	}
	m.screen.show(progressBar(p))
}

// end takes the bar away.
func (m *meter) end() { m.screen.close() }
