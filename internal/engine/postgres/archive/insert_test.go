package archive

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDataThatOthersWriteIsPartOfTheArchive(t *testing.T) {
	eachVersion(t, func(t *testing.T, minor int) {
		whole := sample(minor)
		v := NewVerifier(Events{})
		_, err := v.Write(whole)
		require.NoError(t, err)
		head := whole[:v.ContentsEnd()]
		table := v.Contents()[0]
		edited, contents, added, err := v.InsertTableData(head, []TableData{
			{Table: table, OID: 7, Columns: `a, "b (c"`, Name: "public.x"}, {Table: table, OID: 8, Columns: "a", Name: "public.y"},
		})
		require.NoError(t, err)
		require.Len(t, added, 2)
		require.Len(t, contents, len(v.Contents())+2)

		data := bytes.NewBuffer(edited)
		rows := strings.Repeat("x", chunkSize-10) + "\n"
		for i, lines := range [][]string{{"1\n", rows, "2\n"}, {}, {strings.Repeat("y", 2*chunkSize) + "\n"}} { // three slices
			s := NewSlice(data, added[0].DumpID, i == 0, i == 2)
			for _, line := range lines {
				n, err := s.Write([]byte(line))
				require.NoError(t, err)
				require.Len(t, line, n)
			}
			require.EqualValues(t, len(lines), s.Rows())
			require.NoError(t, s.Close())
		}
		require.NoError(t, NewSlice(data, added[1].DumpID, true, true).Close())
		data.Write(whole[v.ContentsEnd():])

		proof := NewVerifier(Events{})
		_, err = proof.Write(data.Bytes())
		require.NoError(t, err)
		require.NoError(t, proof.Done())
		got := map[string]int64{}
		for i, e := range proof.Contents() {
			require.Equal(t, contents[i].DumpID, e.DumpID)
			require.Equal(t, contents[i].Name(), e.Name())
			require.Equal(t, contents[i].HasData, e.HasData)
			got[fmt.Sprint(e.DumpID)] = e.Rows()
		}
		require.EqualValues(t, 4, got[fmt.Sprint(added[0].DumpID)])
		require.EqualValues(t, 0, got[fmt.Sprint(added[1].DumpID)])

		_, _, _, err = v.InsertTableData(head[:len(head)-1], nil)
		requireIncomplete(t, err)
	})
}
