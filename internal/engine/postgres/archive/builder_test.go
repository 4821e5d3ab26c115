package archive

import (
	"bytes"
	"cmp"
	"strconv"
)

// builder writes archives of any version, whole or wrong.
type builder struct {
	bytes.Buffer
	minor int
	tool  string // 15.18 unless it is told
}

type item struct {
	id         int
	tag        string
	desc       string
	schema     string
	copyStmt   string
	state      byte
	definition string
	deps       []int
}

func (b *builder) int(n int) {
	sign := byte(0)
	if n < 0 {
		sign, n = 1, -n
	}
	b.Write([]byte{sign, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
}

func (b *builder) str(s string) {
	b.int(len(s))
	b.WriteString(s)
}

func (b *builder) null() { b.int(-1) }

func (b *builder) head(compression byte) {
	b.WriteString(magic)
	b.Write([]byte{1, byte(b.minor), 0, 4, 8, 1})
	if b.minor >= minorAlgorithm {
		b.WriteByte(compression)
	} else {
		b.int(int(compression))
	}
	for _, n := range []int{1, 2, 3, 4, 5, 126, -1} {
		b.int(n)
	}
	b.str("shop")
	b.str("15.18")
	b.str(cmp.Or(b.tool, "15.18") + " (Debian)")
}

func (b *builder) toc(items ...item) {
	b.int(len(items))
	for _, e := range items {
		b.int(e.id)
		if e.state == offsetNone {
			b.int(0)
		} else {
			b.int(1)
		}
		b.str("1259")
		b.str(strconv.Itoa(16000 + e.id))
		b.str(e.tag)
		b.str(e.desc)
		b.int(3)
		b.str(e.definition)
		b.str("")
		b.str(e.copyStmt)
		if e.schema == "" {
			b.null()
		} else {
			b.str(e.schema)
		}
		b.str("")
		if b.minor >= minorTableAM {
			b.str("heap")
		}
		if b.minor >= minorRelKind {
			b.int('r')
		}
		b.str("owner")
		b.str("false")
		for _, d := range e.deps {
			b.str(strconv.Itoa(d))
		}
		b.null()
		b.WriteByte(e.state)
		b.Write(make([]byte, 8))
	}
}

func (b *builder) data(id int, chunks ...string) {
	b.WriteByte(blockData)
	b.int(id)
	b.chunks(chunks...)
}

func (b *builder) chunks(chunks ...string) {
	for _, c := range chunks {
		b.str(c)
	}
	b.int(0)
}

const copyOf = "COPY public.t (a) FROM stdin;\n"

// sample is a small archive with everything in it: tables with and without
// rows, large objects, entries without data.
func sample(minor int) []byte {
	b := &builder{minor: minor}
	b.head(0)
	b.toc(
		item{id: 1, tag: "ENCODING", desc: "ENCODING", state: offsetNone},
		item{id: 10, tag: "t", desc: "TABLE", schema: "public", state: offsetNone, definition: "CREATE TABLE public.t (a int);\n"},
		item{id: 11, tag: "t", desc: "TABLE DATA", schema: "public", copyStmt: copyOf, state: offsetNotSet, deps: []int{10}},
		item{id: 12, tag: "empty", desc: "TABLE DATA", schema: "odd \"schema\"", copyStmt: copyOf, state: offsetNotSet, deps: []int{10, 11}},
		item{id: 13, tag: "BLOBS", desc: "BLOBS", state: offsetNotSet},
	)
	b.data(11, "1\n", "2\n", "3\\n\n", copyEnd)
	b.data(12, copyEnd)
	b.WriteByte(blockBlobs)
	b.int(13)
	b.int(1 << 20)
	b.chunks("large", "object")
	b.int(-5) // 4294967291, as it is written
	b.chunks()
	b.int(0)
	return b.Bytes()
}
