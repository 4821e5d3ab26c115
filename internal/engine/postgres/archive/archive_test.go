package archive

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func verify(b []byte) error {
	v := NewVerifier(Events{})
	if _, err := v.Write(b); err != nil {
		return err
	}
	return v.Done()
}

func requireIncomplete(t require.TestingT, err error) {
	require.Error(t, err)
	require.Equal(t, errs.CodeDumpIncomplete, errs.CodeOf(err))
}

func eachVersion(t *testing.T, f func(t *testing.T, minor int)) {
	for minor := oldestMinor; minor <= newestMinor; minor++ {
		t.Run(fmt.Sprintf("1.%d", minor), func(t *testing.T) { f(t, minor) })
	}
}

func TestAWholeArchiveOfEachVersionIsAccepted(t *testing.T) {
	eachVersion(t, func(t *testing.T, minor int) {
		var seen []string
		v := NewVerifier(Events{
			Contents: func(h Header, es []*Entry) { seen = append(seen, fmt.Sprint(h.Minor, len(es))) },
			Started:  func(e *Entry) { seen = append(seen, "start "+e.Name()) },
			Finished: func(e *Entry) { seen = append(seen, fmt.Sprint("end ", e.Name(), e.Rows())) },
		})
		_, err := v.Write(sample(minor))
		require.NoError(t, err)
		require.NoError(t, v.Done())
		require.Equal(t, Header{Minor: minor, Database: "shop", ServerVersion: "15.18", ToolVersion: "15.18 (Debian)"}, v.Header())
		require.Equal(t, []string{
			fmt.Sprint(minor, 5), "start public.t", "end public.t3",
			`start odd "schema".empty`, `end odd "schema".empty0`, "start BLOBS", "end BLOBS-1",
		}, seen)
		require.Equal(t, []int{10, 11}, v.Contents()[3].Dependencies)
		require.Equal(t, "owner", v.Contents()[3].Owner)
	})
}

func TestTruncationAtEveryByteIsRefused(t *testing.T) {
	eachVersion(t, func(t *testing.T, minor int) {
		whole := sample(minor)
		for n := range whole {
			requireIncomplete(t, verify(whole[:n]))
		}
	})
}

func TestTheSizeOfTheWritesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := sample(rapid.IntRange(oldestMinor, newestMinor).Draw(t, "minor"))
		v := NewVerifier(Events{})
		for rest := whole; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if rapid.Bool().Draw(t, "one") {
				n = 1
			}
			written, err := v.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, written)
			rest = rest[n:]
		}
		require.NoError(t, v.Done())
		require.EqualValues(t, 3, v.Contents()[2].Rows())
	})
}

func TestFlippedBitsNeverPanic(t *testing.T) {
	whole := sample(14)
	for i := range whole {
		for bit := range 8 {
			broken := append([]byte(nil), whole...)
			broken[i] ^= 1 << bit
			if err := verify(broken); err != nil {
				requireIncomplete(t, err)
			}
		}
	}
}

func TestAnErrorStaysAnError(t *testing.T) {
	v := NewVerifier(Events{})
	_, err := v.Write([]byte("-- PostgreSQL database dump"))
	requireIncomplete(t, err)
	n, again := v.Write(sample(14))
	require.Zero(t, n)
	require.Equal(t, err, again)
	require.Equal(t, err, v.Done())
}

func TestWrongArchivesAreRefused(t *testing.T) {
	table := item{id: 11, tag: "t", desc: "TABLE DATA", schema: "public", copyStmt: copyOf, state: offsetNotSet}
	cases := map[string]func(b *builder){
		"something after the last block": func(b *builder) { b.toc(table); b.data(11, copyEnd); b.WriteByte(0) },
		"a block too many":               func(b *builder) { b.toc(table); b.data(11, copyEnd); b.data(11, copyEnd) },
		"a block of nobody":              func(b *builder) { b.toc(table); b.data(12, copyEnd) },
		"a block of one without data": func(b *builder) {
			b.toc(table, item{id: 12, tag: "x", desc: "TABLE", state: offsetNone})
			b.data(11)
			b.data(12)
		},
		"a missing block":           func(b *builder) { b.toc(table) },
		"an unknown block":          func(b *builder) { b.toc(table); b.WriteByte(2); b.int(11); b.chunks() },
		"the same id twice":         func(b *builder) { b.toc(table, table); b.data(11); b.data(11) },
		"a negative id":             func(b *builder) { e := table; e.id = -1; b.toc(e) },
		"a negative chunk":          func(b *builder) { b.toc(table); b.WriteByte(1); b.int(11); b.int(-3); b.chunks() },
		"a negative count":          func(b *builder) { b.int(-1) },
		"no table of contents":      func(*builder) {},
		"a dependency in letters":   func(b *builder) { b.int(1); b.int(11); b.int(1); b.entryUpToDependencies(); b.str("eleven") },
		"a wrong data state":        func(b *builder) { e := table; e.state = 7; b.toc(e); b.data(11) },
		"an offset that is not its": func(b *builder) { e := table; e.state = offsetSet; b.toc(e); b.data(11) },
	}
	for name, build := range cases {
		t.Run(name, func(t *testing.T) {
			b := &builder{minor: 14}
			b.head(0)
			build(b)
			requireIncomplete(t, verify(b.Bytes()))
		})
	}
}

func (b *builder) entryUpToDependencies() {
	for range 4 {
		b.str("x")
	}
	b.int(3)
	for range 8 {
		b.str("x")
	}
}

func TestHeadersThatAreNotUnderstoodAreRefused(t *testing.T) {
	for at, values := range map[int][]byte{
		0: {'p'}, 5: {0, 2}, 6: {0, 11, 17}, 8: {0, 2, 8}, 9: {0, 2, 16}, 10: {0, 2, 3},
	} {
		for _, value := range values {
			b := sample(14)
			b[at] = value
			requireIncomplete(t, verify(b))
		}
	}
}

func TestAnEmptyContentIsWhole(t *testing.T) {
	b := &builder{minor: 16}
	b.head(0)
	b.toc()
	require.NoError(t, verify(b.Bytes()))
	b.WriteByte(1)
	requireIncomplete(t, verify(b.Bytes()))
}

func TestRowsAreNotCountedWhereTheyCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		compression byte
		copyStmt    string
		data        string
	}{
		"compressed":        {1, copyOf, "1\n" + copyEnd},
		"INSERT statements": {0, "", "INSERT INTO t VALUES (1);\n" + copyEnd},
		"no end of COPY":    {0, copyOf, "1\n2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &builder{minor: 15}
			b.head(c.compression)
			b.toc(item{id: 1, tag: "t", desc: "TABLE DATA", copyStmt: c.copyStmt, state: offsetNotSet})
			b.data(1, c.data)
			v := NewVerifier(Events{})
			_, err := v.Write(b.Bytes())
			require.NoError(t, err)
			require.NoError(t, v.Done())
			require.EqualValues(t, -1, v.Contents()[0].Rows())
		})
	}
}

func TestRowsAreCountedHoweverTheChunksAreCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOf(rapid.StringMatching(`[a-z\\]{0,6}`)).Draw(t, "rows")
		text := copyEnd
		if len(rows) > 0 {
			text = strings.Join(rows, "\n") + "\n" + copyEnd
		}
		var chunks []string
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "n")
			chunks, text = append(chunks, text[:n]), text[n:]
		}
		b := &builder{minor: 16}
		b.head(0)
		b.toc(item{id: 1, tag: "t", desc: "TABLE DATA", copyStmt: copyOf, state: offsetNotSet})
		b.data(1, chunks...)
		v := NewVerifier(Events{})
		_, err := io.CopyBuffer(struct{ io.Writer }{v}, struct{ io.Reader }{strings.NewReader(b.String())}, make([]byte, 7))
		require.NoError(t, err)
		require.NoError(t, v.Done())
		require.EqualValues(t, len(rows), v.Contents()[0].Rows())
	})
}

func TestLongTextsCostNoMemory(t *testing.T) {
	b := &builder{minor: 14}
	b.head(0)
	b.int(1)
	b.int(1)
	b.int(0)
	b.str("1259")
	b.str("1")
	b.str("f")
	b.str("FUNCTION")
	b.int(3)
	b.int(1 << 30)
	v := NewVerifier(Events{})
	_, err := v.Write(b.Bytes())
	require.NoError(t, err)
	block := make([]byte, 1<<20)
	allocs := testing.AllocsPerRun(500, func() { _, err = v.Write(block) })
	require.NoError(t, err)
	require.Zero(t, allocs)
	require.Less(t, cap(v.item), 1<<16)
	requireIncomplete(t, v.Done())
}

func FuzzVerifier(f *testing.F) {
	for minor := oldestMinor; minor <= newestMinor; minor++ {
		f.Add(sample(minor), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole := verify(b)
		v := NewVerifier(Events{})
		for rest := b; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			if _, err := v.Write(rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		if inSteps := v.Done(); (whole == nil) != (inSteps == nil) {
			t.Fatalf("in one piece: %v, in pieces of %d: %v", whole, int(step)+1, inSteps)
		}
	})
}

func BenchmarkVerifierOfSmallRows(b *testing.B) {
	row := strings.Repeat("x", 59) + "\n"
	bld := &builder{minor: 14}
	bld.head(0)
	bld.toc(item{id: 1, tag: "t", desc: "TABLE DATA", copyStmt: copyOf, state: offsetNotSet})
	bld.WriteByte(blockData)
	bld.int(1)
	start := bld.Len()
	for range 200_000 {
		bld.str(row[rand.IntN(10):])
	}
	v := NewVerifier(Events{})
	_, err := v.Write(bld.Bytes()[:start])
	require.NoError(b, err)
	body := bld.Bytes()[start:]
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		for rest := body; len(rest) > 0; {
			n := min(256<<10, len(rest))
			if _, err := v.Write(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
}

func TestPartitionsOfOldToolsTellThatTheyAreSome(t *testing.T) {
	const partition = "CREATE TABLE public.p (a int DEFAULT 1);\nALTER TABLE ONLY public.t ATTACH PARTITION public.p DEFAULT;\n"
	for tool, want := range map[string]bool{"10.23": true, "13.23": true, "14.0": false, "17.2": false, "9.6.1": false} {
		for _, size := range []int{1, 7, 1 << 20} { // however the bytes come
			b := &builder{minor: 14, tool: tool}
			b.head(0)
			b.toc(
				item{id: 1, tag: "t", desc: "TABLE", schema: "public", state: offsetNone, definition: "CREATE TABLE public.t (a int)\nPARTITION BY LIST (a);\n"},
				item{id: 2, tag: "p", desc: "TABLE", schema: "public", state: offsetNone, definition: strings.Repeat("-- long\n", 1000) + partition, deps: []int{1}},
				item{id: 3, tag: "f", desc: "FUNCTION", schema: "public", state: offsetNone, definition: partition},
				item{id: 5, tag: "p", desc: "FOREIGN TABLE", schema: "other", state: offsetNone, definition: partition, deps: []int{1}},
				item{id: 4, tag: "u", desc: "TABLE", schema: "public", state: offsetNone, definition: "CREATE TABLE public.u (a int);\n", deps: []int{1}},
			)
			v := NewVerifier(Events{})
			for piece := range slices.Chunk(b.Bytes(), size) {
				_, err := v.Write(piece)
				require.NoError(t, err)
			}
			require.NoError(t, v.Done())
			for _, e := range v.Contents() {
				require.Equal(t, want && e.Tag == "p", e.Attaches, "%s of pg_dump %s", e.Tag, tool)
			}
		}
	}
}
