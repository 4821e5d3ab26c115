package artifact

import (
	"io"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compression names a format every system has a tool for.
type Compression string

// Compressions.
const (
	Zstd          Compression = "zstd"
	Gzip          Compression = "gzip"
	LZ4           Compression = "lz4"
	NoCompression Compression = "none"
)

// suffix of the names of compressed parts.
func (c Compression) suffix() string {
	switch c {
	case Zstd:
		return ".zst"
	case Gzip:
		return ".gz"
	case LZ4:
		return ".lz4"
	case NoCompression:
	}
	return ""
}

// levels returns the lowest and highest level; the lowest is the fastest.
func (c Compression) levels() (lowest, highest int, known bool) {
	switch c {
	case Zstd:
		return 1, 4, true
	case Gzip:
		return 1, 9, true
	case LZ4:
		return 0, 9, true
	case NoCompression:
		return 0, 0, true
	}
	return 0, 0, false
}

// CheckCompression accepts zstd 1..4 (fastest, default, better, best), gzip
// 1..9, lz4 0..9 and none; a nil level is the fastest. The error is Invalid.
func CheckCompression(c Compression, level *int) error {
	lowest, highest, known := c.levels()
	if !known {
		return errs.New(errs.Invalid, errs.CodeValidation, "%q is not a compression: use zstd, gzip, lz4 or none", c)
	}
	if level != nil && (*level < lowest || *level > highest) {
		return errs.New(errs.Invalid, errs.CodeValidation, "%d is not a level of %s: use %d to %d", *level, c, lowest, highest)
	}
	return nil
}

// zstdWindow is how far back matches of a level may lie: what the zstd program
// uses for comparable levels. The encoder keeps twice as much in memory. A larger
// window costs the fastest level time and wins it nothing, as it remembers too
// few positions to look further back.
func zstdWindow(level zstd.EncoderLevel) int {
	switch level {
	case zstd.SpeedFastest:
		return 512 << 10
	case zstd.SpeedDefault:
		return 2 << 20
	default:
		return 4 << 20
	}
}

// zstdConcurrency of 1 keeps the encoder in the goroutine that calls it, which is
// the member's own (see belt). Its own goroutines hand over every block of 128 KiB,
// which costs a fifth more CPU and is no sooner done.
const zstdConcurrency = 1

// compressor makes the compressing stage of members and keeps encoders, which
// are large, for the next member. Safe for concurrent use.
type compressor struct {
	compression Compression
	level       int
	idle        idle[encoder]
}

func newCompressor(c Compression, level *int) *compressor {
	lowest, _, _ := c.levels()
	k := &compressor{compression: c, level: lowest}
	if level != nil {
		k.level = *level
	}
	return k
}

// encoder is what all three libraries offer.
type encoder interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// encode returns a writer that compresses into dst. Close ends the stream and
// leaves dst open.
func (k *compressor) encode(dst io.Writer) (*encoding, error) {
	if e, ok := k.idle.take(); ok {
		e.Reset(dst)
		return &encoding{encoder: e, from: k}, nil
	}
	e, err := k.newEncoder(dst)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the %s encoder could not be made", k.compression)
	}
	return &encoding{encoder: e, from: k}, nil
}

func (k *compressor) newEncoder(dst io.Writer) (encoder, error) {
	switch k.compression {
	case Zstd:
		// WithLowerEncoderMem would move the whole window for every block of 128 KiB.
		level := zstd.EncoderLevel(k.level)
		return zstd.NewWriter(dst,
			zstd.WithEncoderLevel(level),
			zstd.WithWindowSize(zstdWindow(level)),
			zstd.WithEncoderConcurrency(zstdConcurrency),
			zstd.WithZeroFrames(true))
	case Gzip:
		return gzip.NewWriterLevel(dst, k.level)
	case LZ4:
		return newLZ4(dst, k.level)
	case NoCompression:
	}
	return &verbatim{dst}, nil
}

// newLZ4 maps 0 to the library's fast mode and 1..9 to its levels.
func newLZ4(dst io.Writer, level int) (encoder, error) {
	w := lz4.NewWriter(dst)
	l := lz4.Fast
	if level > 0 {
		l = lz4.CompressionLevel(1 << (8 + level))
	}
	err := w.Apply(lz4.CompressionLevelOption(l), lz4.BlockSizeOption(lz4.Block1Mb), lz4.ChecksumOption(true))
	return w, err
}

// verbatim compresses nothing.
type verbatim struct{ io.Writer }

func (v *verbatim) Close() error      { return nil }
func (v *verbatim) Reset(w io.Writer) { v.Writer = w }

// encoding is one use of an encoder.
type encoding struct {
	encoder
	from *compressor
}

// Close ends the stream. Only an encoder that ended well is used again.
func (e *encoding) Close() error {
	if err := e.encoder.Close(); err != nil {
		return err
	}
	e.Reset(nil)
	e.from.idle.put(e.encoder)
	return nil
}

// maxWindow bounds what a zstd frame may ask for; our encoders use 4 MiB at most.
const maxWindow = 64 << 20

// decode returns the decompressed bytes of src. The stream may end at any time
// by an error of src; release ends its goroutines.
func decode(c Compression, src io.Reader) (r io.Reader, release func(), err error) {
	switch c {
	case Zstd:
		d, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return d, d.Close, nil
	case Gzip:
		d, err := gzip.NewReader(src)
		if err != nil {
			return nil, nil, err
		}
		return d, func() {}, nil
	case LZ4:
		return lz4.NewReader(src), func() {}, nil
	case NoCompression:
	}
	return src, func() {}, nil
}
