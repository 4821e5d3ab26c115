package mysql

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func TestHeadsOfTriggersLoseTheDatabase(t *testing.T) {
	const before, after = "/*!50003 CREATE*/ /*!50017 DEFINER=`shop`@`%`*/ /*!50003 ", " */;;\nDELIMITER ;\n"
	pass := func(statement string) (string, error) {
		text, err := io.ReadAll(newFilter(strings.NewReader("DELIMITER ;;\n"+before+statement+after), "other", nil))
		return strings.TrimSuffix(strings.TrimPrefix(string(text), "DELIMITER ;;\n"+before), after), err
	}
	for statement, want := range map[string]string{
		"TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = 'shop.t'":                                                           "",
		"TRIGGER shop.tr BEFORE INSERT ON shop.t FOR EACH ROW SET @a = 'shop.t'":                                                 "TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = 'shop.t'",
		"TRIGGER /* audit */ shop.tr BEFORE INSERT ON shop.t FOR EACH ROW SET @a = 1":                                            "TRIGGER /* audit */ tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
		"TRIGGER/**/`shop`/* a.b * */./**/`tr`/***/AFTER/* x */UPDATE ON /*y*/ shop . `t``t`/**/FOR/**/EACH/**/ROW SET @a = 1":   "TRIGGER/**/`tr`/***/AFTER/* x */UPDATE ON /*y*/ `t``t`/**/FOR/**/EACH/**/ROW SET @a = 1",
		"TRIGGER -- by shop.tr\n#\nshop.tr\n--\nAFTER DELETE\n-- x\nON shop.t\nFOR EACH ROW\nbegin\n insert into shop.log;\nend": "TRIGGER -- by shop.tr\n#\ntr\n--\nAFTER DELETE\n-- x\nON t\nFOR EACH ROW\nbegin\n insert into shop.log;\nend",
		"TRIGGER /* for each row */\n-- for each row\n shop.tr BEFORE INSERT ON shop\n.t FOR EACH ROW SET @a = 1":                "TRIGGER /* for each row */\n-- for each row\n tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
		"TRIGGER if /**/ not exists shop.tr AFTER INSERT OR UPDATE OF a, `b` OR DELETE ON shop.t FOR EACH ROW SET @a = 1":        "TRIGGER if /**/ not exists tr AFTER INSERT OR UPDATE OF a, `b` OR DELETE ON t FOR EACH ROW SET @a = 1",
		"TRIGGER tr SOME DAY ON t FOR EACH ROW SET @a = 'shop.t'":                                                                "", // the server decides
	} {
		got, err := pass(statement)
		require.NoError(t, err, statement)
		if want == "" {
			want = statement
		}
		require.Equal(t, want, got)
	}
	for _, statement := range []string{"TRIGGER shop.tr SOME DAY ON shop.t FOR EACH ROW SET @a = 1", "TRIGGER shop.tr ON"} {
		_, err := pass(statement)
		require.Equal(t, errs.Conflict, errs.KindOf(err), "%s: %v", statement, err)
	}
}

func TestASemicolonBeforeTheEndOfATriggerIsLeftOut(t *testing.T) {
	for text, want := range map[string]string{
		"/*!50003 CREATE*/ /*!50003 TRIGGER `a` BEFORE INSERT ON `t` FOR EACH ROW SET @a = 1; */;;\n":                 "/*!50003 CREATE*/ /*!50003 TRIGGER `a` BEFORE INSERT ON `t` FOR EACH ROW SET @a = 1 */;;\n",
		"/*!50003 CREATE*/ /*!50003 TRIGGER `a` BEFORE INSERT ON `t` FOR EACH ROW BEGIN\nSET @a = 1;\nEND ;\t */;;\n": "/*!50003 CREATE*/ /*!50003 TRIGGER `a` BEFORE INSERT ON `t` FOR EACH ROW BEGIN\nSET @a = 1;\nEND  */;;\n",
		"/*!50106 CREATE*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 1; */ ;;\n":                           "/*!50106 CREATE*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 1 */ ;;\n",
		"/*!50106 CREATE*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select ';' */ ;;\n":                          "",
	} {
		if want == "" {
			want = text
		}
		got, err := io.ReadAll(newFilter(strings.NewReader(text), "shop", nil))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.Equal(t, "DELIMITER ;;\n"+want, string(withoutTables([]byte("DELIMITER ;;\n"+text))))
		var dumped, restored script
		_, _ = io.WriteString(&dumped, "DELIMITER ;;\n"+text+"DELIMITER ;\n")
		_, _ = io.WriteString(&restored, "DELIMITER ;;\n"+want+"DELIMITER ;\n")
		require.NotEmpty(t, dumped.schema.found)
		require.Equal(t, dumped.schema.found, restored.schema.found, "the schema is the same")
	}
}
