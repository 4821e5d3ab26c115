package mysql

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// A tool warns of an option that it does not know, loose or not, and its warnings are
// those of the backup.
func TestToolsOfMySQLGetOnlyOptionsThatTheyKnow(t *testing.T) {
	const statistics, masking = "--loose-column-statistics=0", "--loose-skip-masking-policies"
	for num, wanted := range map[int][]string{
		50651: nil,
		50744: {askForKey},
		80046: {askForKey, statistics},
		80400: {askForKey, statistics},
		90600: {askForKey, statistics},
		90700: {askForKey, statistics, masking},
	} {
		p := program{name: "mysqldump", flavor: engine.MySQL, num: num}
		file, err := optionFile(engine.Conn{Type: engine.MySQL, Host: "db", Port: 3306}, p, t.TempDir())
		require.NoError(t, err)
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all := string(text) + strings.Join((&dump{tool: p}).toolOptions(file), "\n")
		var got []string
		for _, option := range []string{askForKey, statistics, masking} {
			if strings.Contains(all, option) {
				got = append(got, option)
			}
		}
		require.Equal(t, wanted, got, "%d", num)
	}
}
