package logs

import "bytes"

// longLine is where a line without an end is broken, in bytes.
const longLine = 64 << 10

// LineWriter cuts what is written into lines and redacts each. It is an
// io.WriteCloser for one goroutine at a time.
type LineWriter struct {
	redactor *Redactor
	emit     func(line string)
	limit    int
	buffer   []byte
}

// Lines returns a writer that calls emit with each line, redacted and without
// its end, however the text was cut into writes. Close emits what is left. A
// line over 64 KiB comes in pieces, never broken inside a secret.
func (r *Redactor) Lines(emit func(line string)) *LineWriter {
	return &LineWriter{redactor: r, emit: emit, limit: max(longLine, 2*r.widest)}
}

// Write never fails.
func (w *LineWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, found := bytes.Cut(rest, []byte{'\n'})
		if room := w.limit - len(w.buffer); len(line) > room {
			w.buffer = append(w.buffer, line[:room]...)
			rest = rest[room:]
			w.breakLine()
			continue
		}
		w.buffer = append(w.buffer, line...)
		rest = after
		if found {
			w.flush()
		}
	}
	return len(p), nil
}

// Close emits an unfinished line.
func (w *LineWriter) Close() error {
	if len(w.buffer) > 0 {
		w.flush()
	}
	return nil
}

func (w *LineWriter) flush() {
	w.emit(w.redactor.Redact(string(bytes.TrimRight(w.buffer, "\r"))))
	w.buffer = w.buffer[:0]
}

// breakLine emits what can hold no secret whose end is still to come.
func (w *LineWriter) breakLine() {
	at := len(w.buffer) - w.redactor.widest
	for _, found := range w.redactor.find(string(w.buffer)) {
		if found.from < at && at < found.to {
			at = found.to
		}
	}
	w.emit(w.redactor.Redact(string(w.buffer[:at])))
	w.buffer = append(w.buffer[:0], w.buffer[at:]...)
}
