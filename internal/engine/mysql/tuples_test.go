package mysql

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRowsAreCountedHoweverAToolWritesThem(t *testing.T) {
	for name, tc := range map[string]struct {
		inserts string
		rows    int64
	}{
		"a line each":                {"INSERT INTO `t``s` VALUES\n(1,'a'),\n(2,'(,')\n,\n", -1},
		"a line each, whole":         {"INSERT INTO `t``s` VALUES\n(1,'a'),\n(2,'(,');\n", 2},
		"one line":                   {"INSERT INTO `t``s` VALUES (1,'a'),(2,'b');\n", 2},
		"several lines":              {"INSERT INTO `t``s` VALUES (1,'a'),(2,'b');\nINSERT INTO `t``s` VALUES (3,NULL);\n", 3},
		"columns":                    {"INSERT INTO `t``s` (`a`, `VALUES (x),(y`, `c``(`) VALUES (1,-1.5e10,0x00ff),(2,'b',_binary '\\0');\n", 2},
		"texts that look like rows":  {"INSERT INTO `t``s` VALUES ('),(','\\'),(\\\\'),('''),(''','\\n;'),('`),(','');\n", 3},
		"brackets in a value":        {"INSERT INTO `t``s` VALUES (1,(2)),((3),4);\n", 2},
		"columns, a line each":       {"INSERT INTO `t``s` (`a`, row_start) VALUES (1,'a'),\n(2,'(,'),\n(3,');');\nINSERT INTO `t``s` (`a`, row_start) VALUES (4,'');\n", 4},
		"columns, without an end":    {"INSERT INTO `t``s` (`a`, row_start) VALUES (1,'a'),\n(2,'(,'),\n,\n", -1},
		"another table's":            {"INSERT INTO `other` VALUES (1);\n", -1},
		"a statement without an end": {"INSERT INTO `t``s` VALUES (1),('2);\n", -1},
		"none":                       {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			text := []byte("LOCK TABLES `t``s` WRITE;\n/*!40000 ALTER TABLE `t``s` DISABLE KEYS */;\n" + tc.inserts + "/*!40000 ALTER TABLE `t``s` ENABLE KEYS */;\nUNLOCK TABLES;\n")
			for _, size := range []int{1, 2, 3, 17, 31, len(text)} {
				got := map[string]int64{}
				s := &script{finished: func(table string, rows int64) { got[table] = rows }}
				for piece := range slices.Chunk(text, size) {
					_, err := s.Write(piece)
					require.NoError(t, err)
				}
				require.Equal(t, map[string]int64{"t`s": tc.rows}, got, "in pieces of %d bytes", size)
			}
		})
	}
}
