package logs

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	appendBatch = 256
	pageLines   = 128
)

// Append implements Hub. It is one round trip for the stream and one for the
// channel per 256 lines. After an error some of the lines may be there; append
// them again.
func (h *RedisHub) Append(ctx context.Context, executionID string, lines ...Line) error {
	for len(lines) > 0 {
		n := min(len(lines), appendBatch)
		if err := h.appendBatch(ctx, executionID, lines[:n]); err != nil {
			return err
		}
		lines = lines[n:]
	}
	return nil
}

func (h *RedisHub) appendBatch(ctx context.Context, executionID string, lines []Line) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	key := h.streamKey(executionID)
	m := message{Lines: make([]json.RawMessage, 0, len(lines))}
	encoded := make([]json.RawMessage, len(lines))
	cmds := make(rueidis.Commands, 0, len(lines)+1)
	for i, l := range lines {
		if l.Seq < 1 {
			return errs.New(errs.Internal, errs.CodeInternal, "a log line has the number %d; lines count from 1", l.Seq)
		}
		var err error
		if encoded[i], err = encodeLine(l); err != nil {
			return errs.Wrap(err, errs.Internal, errs.CodeInternal, "a log line cannot be encoded")
		}
		cmds = append(cmds, h.client.B().Xadd().Key(key).Maxlen().Almost().Threshold(strconv.FormatInt(h.cfg.Lines, 10)).Id(lineID(l.Seq)).
			FieldValue().FieldValue(lineField, string(encoded[i])).Build())
		m.Top = max(m.Top, l.Seq)
	}
	cmds = append(cmds, h.client.B().Pexpire().Key(key).Milliseconds(h.cfg.Abandoned.Milliseconds()).Build())
	for i, answer := range h.client.DoMulti(ctx, cmds...) {
		switch err := answer.Error(); {
		case err == nil && i < len(lines):
			m.Lines = append(m.Lines, encoded[i])
		case err != nil && !isOutdated(err):
			return errRedis(err)
		}
	}
	h.appended(executionID, m.Top)
	return h.publish(ctx, h.liveChannel(executionID), m)
}

// isOutdated says that the stream has the entry, or a later one, already.
func isOutdated(err error) bool {
	redisErr, ok := rueidis.IsRedisErr(err)
	return ok && strings.Contains(redisErr.Error(), "equal or smaller than the target stream top item")
}

func (h *RedisHub) publish(ctx context.Context, channel string, m message) error {
	payload, err := encodeMessage(m)
	if err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "a log message cannot be encoded")
	}
	if err := h.client.Do(ctx, h.client.B().Publish().Channel(channel).Message(payload).Build()).Error(); err != nil {
		return errRedis(err)
	}
	return nil
}

// Announce implements Hub. A state is at most 64 KiB.
func (h *RedisHub) Announce(ctx context.Context, executionID string, state []byte) error {
	if len(state) > maxState {
		return errs.New(errs.Internal, errs.CodeInternal, "a state of %d bytes is too large to announce; %d are allowed", len(state), maxState)
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	if err := h.publish(ctx, h.liveChannel(executionID), message{State: state}); err != nil {
		return err
	}
	return h.publish(ctx, h.stateChannel(), message{ID: executionID, State: state})
}

// Close implements Hub: it marks the end in the stream, after the last line, so
// that outdated writers come too late and late tails learn of it. Lines that
// follow the mark open the log again. It tries for the time of one answer.
func (h *RedisHub) Close(ctx context.Context, executionID string) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	for {
		err := h.markEnd(ctx, executionID)
		if err == nil {
			err = h.publish(ctx, h.liveChannel(executionID), message{End: true})
		}
		if err == nil {
			h.forget(executionID)
			return nil
		}
		select {
		case <-time.After(firstResend):
		case <-ctx.Done():
			return err
		}
	}
}

// Open implements Hub: it removes the mark of Close.
func (h *RedisHub) Open(ctx context.Context, executionID string) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	last, found, err := h.last(ctx, executionID)
	if err != nil || !found || last.line != nil {
		return err
	}
	key := h.streamKey(executionID)
	for _, answer := range h.client.DoMulti(ctx,
		h.client.B().Xdel().Key(key).Id(last.id).Build(),
		h.client.B().Pexpire().Key(key).Milliseconds(h.cfg.Abandoned.Milliseconds()).Build(),
	) {
		if err := answer.Error(); err != nil {
			return errRedis(err)
		}
	}
	return nil
}

func (h *RedisHub) markEnd(ctx context.Context, executionID string) error {
	key := h.streamKey(executionID)
	for n := 1; ; {
		last, _, err := h.last(ctx, executionID)
		if err != nil {
			return err
		}
		top := max(last.seq, h.topOf(executionID))
		answers := h.client.DoMulti(ctx,
			h.client.B().Xadd().Key(key).Id(endID(top, n)).FieldValue().FieldValue(endField, "1").Build(),
			h.client.B().Pexpire().Key(key).Milliseconds(h.cfg.Keep.Milliseconds()).Build())
		expireErr := answers[1].Error()
		switch err := answers[0].Error(); {
		case err != nil && !isOutdated(err):
			return errRedis(err)
		case expireErr != nil:
			return errRedis(expireErr)
		case err == nil, last.line == nil && last.seq == top: // marked now, or long since
			return nil
		case last.seq == top: // Open has removed such a mark
			n++
		}
		if ctx.Err() != nil { // lines keep coming
			return errRedis(context.Cause(ctx))
		}
	}
}

// last returns the stream's last entry; false when there is none.
func (h *RedisHub) last(ctx context.Context, executionID string) (entry, bool, error) {
	entries, err := h.client.Do(ctx, h.client.B().Xrevrange().Key(h.streamKey(executionID)).End("+").Start("-").Count(1).Build()).AsXRangeSlices()
	if err != nil {
		return entry{}, false, errRedis(err)
	}
	if len(entries) == 0 {
		return entry{}, false, nil
	}
	e, ok := decodeEntry(entries[0])
	return e, ok, nil
}

// Read implements Hub.
func (h *RedisHub) Read(ctx context.Context, executionID string, after int64) ([]Line, error) {
	var lines []Line
	for {
		p, err := h.readPage(ctx, executionID, after)
		if err != nil {
			return nil, err
		}
		for _, e := range p.entries {
			after = max(after, e.seq)
			if e.line != nil {
				lines = append(lines, *e.line)
			}
		}
		if !p.more {
			return lines, nil
		}
	}
}

// page is what a stream had after a line, in order.
type page struct {
	entries []entry
	more    bool // the page was full
	ended   bool // the log is closed, and this is its end
}

// readPage reads what follows the line after. It waits for one of a bounded
// number of slots, so that thousands of tails that catch up at once neither
// flood Redis nor the memory.
func (h *RedisHub) readPage(ctx context.Context, executionID string, after int64) (page, error) {
	select {
	case h.readers <- struct{}{}:
		defer func() { <-h.readers }()
	case <-ctx.Done():
		return page{}, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	for from := after; ; {
		raw, err := h.scan(ctx, executionID, from)
		if err != nil {
			return page{}, err
		}
		p := page{more: len(raw) == pageLines}
		for _, r := range raw {
			if e, ok := decodeEntry(r); ok && e.seq > after {
				p.entries = append(p.entries, e)
			}
		}
		switch n := len(p.entries); {
		case n > 0:
			p.ended = !p.more && p.entries[n-1].line == nil
			return p, nil
		case p.more: // nothing of ours: go on behind it
			from = numberOf(raw[len(raw)-1].ID)
		default:
			last, found, err := h.last(ctx, executionID)
			if err == nil && found && last.seq > from { // it has come since the scan
				continue
			}
			p.ended = found && last.line == nil
			return p, err
		}
	}
}

// scan returns a page of raw entries behind all of the number after.
func (h *RedisHub) scan(ctx context.Context, executionID string, after int64) ([]rueidis.XRangeSlice, error) {
	if after < 0 || after == math.MaxInt64 {
		return nil, errs.New(errs.Invalid, errs.CodeInvalidArgument, "no line has the number %d", after)
	}
	key := h.streamKey(executionID)
	streams, err := h.client.Do(ctx, h.client.B().Xread().Count(pageLines).Streams().Key(key).Id(behindID(after)).Build()).AsXReadSlices()
	if err != nil && !rueidis.IsRedisNil(err) {
		return nil, errRedis(err)
	}
	return streams[key], nil
}
