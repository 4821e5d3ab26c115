package archive

import (
	"strconv"
	"strings"
)

// kind of a field.
type kind uint8

const (
	raw     kind = iota // n bytes
	integer             // sign and bytes
	text                // length and bytes; n of them are kept
	summed              // text whose bytes are all hashed into v.sum
)

// field is one item of the header or of an entry. set sees it in v.raw, v.num
// or v.str (with v.null).
type field struct {
	kind kind
	n    int
	set  func(v *Verifier) error
}

const (
	nameLimit = 4 << 10 // bytes of a name that are kept
	none      = 0
)

func skipInt() field { return field{integer, none, nil} }
func skipText() field {
	return field{text, none, nil}
}

// preamble is the part of the header that no version changed.
func preamble() []field {
	return []field{
		{raw, len(magic), func(v *Verifier) error {
			if string(v.item) != magic {
				return v.malformed("it does not start with %s", magic)
			}
			return nil
		}},
		{raw, 3, (*Verifier).setVersion},
		{raw, 1, func(v *Verifier) error {
			if v.item[0] != intSize {
				return v.malformed("integers of %d bytes", v.item[0])
			}
			return nil
		}},
		{raw, 1, func(v *Verifier) error {
			if v.offSize = int(v.item[0]); v.offSize != 4 && v.offSize != 8 {
				return v.malformed("offsets of %d bytes", v.offSize)
			}
			return nil
		}},
		{raw, 1, func(v *Verifier) error {
			if v.item[0] != formatCustom {
				return v.malformed("format %d", v.item[0])
			}
			return nil
		}},
	}
}

// description is the rest of the header, with the number of entries.
func description(minor int) []field {
	compression := field{integer, none, func(v *Verifier) error {
		v.header.Compressed = v.num != 0
		return nil
	}}
	if minor >= minorAlgorithm {
		compression = field{raw, 1, func(v *Verifier) error {
			v.header.Compressed = v.item[0] != 0
			return nil
		}}
	}
	fs := []field{compression}
	for range 7 { // the time it was made, as C's struct tm
		fs = append(fs, skipInt())
	}
	return append(fs,
		field{text, nameLimit, func(v *Verifier) error { v.header.Database = v.str; return nil }},
		field{text, nameLimit, func(v *Verifier) error { v.header.ServerVersion = v.str; return nil }},
		field{text, nameLimit, func(v *Verifier) error { v.header.ToolVersion = v.str; return nil }},
		field{integer, none, (*Verifier).setCount},
	)
}

// entryFields are the fields up to the first dependency.
func entryFields(minor int) []field {
	fs := []field{
		{integer, none, (*Verifier).setDumpID},
		{integer, none, (*Verifier).setHasData},
		skipText(), // catalog
		skipText(), // object id
		{text, nameLimit, func(v *Verifier) error { v.entry.Tag = v.str; return nil }},
		{text, nameLimit, func(v *Verifier) error { v.entry.Desc = v.str; return nil }},
		{integer, none, func(v *Verifier) error { v.entry.section = v.num; return nil }},
		{summed, nameLimit, (*Verifier).setDefinition},
		skipText(), // drop statement
		{text, 5, func(v *Verifier) error { v.entry.copyText = v.str == "COPY "; return nil }},
		{text, nameLimit, func(v *Verifier) error { v.entry.Namespace = v.str; return nil }},
		skipText(), // tablespace
	}
	if minor >= minorTableAM {
		fs = append(fs, skipText())
	}
	if minor >= minorRelKind {
		fs = append(fs, skipInt())
	}
	return append(fs,
		field{text, nameLimit, func(v *Verifier) error { v.entry.Owner = v.str; return nil }},
		skipText(), // with OIDs
	)
}

// dependency is repeated until one is null.
func dependency() []field {
	return []field{{text, 32, func(v *Verifier) error {
		if v.null {
			return nil
		}
		id, err := strconv.Atoi(strings.TrimSpace(v.str))
		if err != nil {
			return v.malformed("%s depends on %q", v.entry.describe(), v.str)
		}
		v.entry.Dependencies = append(v.entry.Dependencies, id)
		return nil
	}}}
}

// position closes an entry.
func position(offSize int) []field {
	return []field{{raw, 1 + offSize, (*Verifier).setOffset}}
}

func (v *Verifier) setVersion() error {
	v.header.Minor = int(v.item[1])
	if v.item[0] != major || v.header.Minor < oldestMinor || v.header.Minor > newestMinor {
		return v.malformed("archive version %d.%d is not one of %d.%d to %d.%d",
			v.item[0], v.item[1], major, oldestMinor, major, newestMinor)
	}
	return nil
}

func (v *Verifier) setCount() error {
	if v.num < 0 {
		return v.malformed("%d entries", v.num)
	}
	v.expected, v.countAt = v.num, v.pos-intLen
	return nil
}

func (v *Verifier) setDumpID() error {
	id := int(v.num)
	if id <= 0 || v.byID[id] != nil {
		return v.malformed("entry id %d is out of range or used twice", id)
	}
	v.entry = &Entry{DumpID: id, rows: -1, from: v.pos - intLen}
	v.byID[id] = v.entry
	return nil
}

func (v *Verifier) setHasData() error {
	if v.num != 0 && v.num != 1 {
		return v.malformed("entry %d has data: %d", v.entry.DumpID, v.num)
	}
	v.entry.HasData = v.num == 1
	return nil
}

// setDefinition keeps only what says how the database itself was made, and the
// values of sequences.
func (v *Verifier) setDefinition() error {
	v.sum.Sum(v.entry.Sum[:0])
	v.entry.Attaches = v.attach && (v.entry.Desc == "TABLE" || v.entry.Desc == "FOREIGN TABLE") && v.header.attachesInTables()
	if v.entry.Desc == "DATABASE" || v.entry.Desc == "SEQUENCE SET" {
		v.entry.Definition = v.str
	}
	return nil
}

func (v *Verifier) setOffset() error {
	e := v.entry
	e.at, e.state = v.pos-int64(len(v.item)), v.item[0]
	for i, b := range v.item[1:] {
		e.offset |= int64(b) << (8 * i)
	}
	hasData := e.state == offsetNotSet || e.state == offsetSet
	if hasData != e.HasData || !hasData && e.state != offsetNone {
		return v.malformed("%s has data: %t, but its data state is %d", e.describe(), e.HasData, e.state)
	}
	if hasData {
		v.missing++
	}
	v.contents = append(v.contents, e)
	return nil
}
