package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// SchemaDigest is "method:sha256" over the definitions of a database, whatever
// their order: tables, indexes, views, routines, and what else a dump creates. Of
// PostgreSQL it covers the values of sequences too. Owners, privileges and
// anything that each dump or server writes anew are not in it. The method names
// the versions of server and tool, whose wording the digest depends on.
type SchemaDigest string

// NewSchemaDigest makes the digest of definitions in any order.
func NewSchemaDigest(method string, definitions []string) SchemaDigest {
	sums := make([]string, 0, len(definitions))
	for _, d := range definitions {
		sum := sha256.Sum256([]byte(d))
		sums = append(sums, string(sum[:]))
	}
	slices.Sort(sums)
	all := sha256.New()
	for _, sum := range sums {
		all.Write([]byte(sum))
	}
	return SchemaDigest(method + ":" + hex.EncodeToString(all.Sum(nil)))
}

// Method returns how the digest was made; empty for the digest of an old dump,
// which has none.
func (d SchemaDigest) Method() string {
	method, _, _ := strings.Cut(string(d), ":")
	return method
}

// Comparable reports whether equal schemas have equal digests: both were made in
// the same way.
func (d SchemaDigest) Comparable(other SchemaDigest) bool {
	return d != "" && d.Method() == other.Method()
}

// RowDifference is a table whose rows are not as many as they were; a partitioned
// table stands for all its partitions.
type RowDifference struct {
	Table    TableName
	Dumped   int64
	Restored int64 // -1 when the table is not there
}

// RowDifferences compares the rows of a dump's tables with what CountRows found,
// in the same order. Tables that were not counted when dumped are passed over.
func RowDifferences(dumped []Table, restored []int64) []RowDifference {
	sums := map[TableName]*RowDifference{}
	var order []*RowDifference
	for i, t := range dumped {
		name := TableName{Schema: t.Schema, Name: t.Name}
		if t.Root != nil {
			name = *t.Root
		} else if t.Rows < 0 {
			continue
		}
		d := sums[name]
		if d == nil {
			d = &RowDifference{Table: name}
			sums[name], order = d, append(order, d)
		}
		d.Dumped += max(t.Rows, 0)
		switch {
		case restored[i] < 0:
			d.Restored = -1
		case d.Restored >= 0:
			d.Restored += restored[i]
		}
	}
	var all []RowDifference
	for _, d := range order {
		if d.Dumped != d.Restored {
			all = append(all, *d)
		}
	}
	return all
}
