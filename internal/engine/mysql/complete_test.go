package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func TestAScriptTellsWhichRoutinesItMakes(t *testing.T) {
	const text = "-- Host: h    Database: d\n/*!50003 SET x = 1 */;\nDELIMITER ;;\n" +
		"CREATE DEFINER=`a`@`%` FUNCTION `f`() RETURNS int\nBEGIN\nCREATE PROCEDURE `no`();\nRETURN 1; END ;;\nDELIMITER ;\n" +
		"/*!50003 CREATE*/ /*!50020 DEFINER=`a`@`%`*/ /*!50003 PROCEDURE `p``p`() SELECT 1 */;\nDELIMITER ;;\n" +
		"CREATE DEFINER=\"a\"@\"%\" PACKAGE \"pack\" AS PROCEDURE p; END ;;\nCREATE DEFINER=\"a\"@\"%\" PACKAGE BODY \"pack\" AS PROCEDURE p AS BEGIN SELECT 1; END; END ;;\n" +
		"CREATE DEFINER=`role` AGGREGATE FUNCTION `agg`(x int) RETURNS int\nBEGIN END ;;\nCREATE LIBRARY `odd\n;name` LANGUAGE JAVASCRIPT\nAS $$\nCREATE LIBRARY `no`\n$$ ;;\nDELIMITER ;\n" +
		"CREATE PROCEDURE p() SELECT 1;\n-- CREATE FUNCTION `no`\n"
	made := []object{{"FUNCTION", "f"}, {"PROCEDURE", "p`p"}, {"PACKAGE", "pack"}, {"PACKAGE BODY", "pack"}, {"FUNCTION", "agg"}, {"LIBRARY", "odd\n;name"}}
	require.Equal(t, made, madeBy([]byte(text)))

	p := program{name: "mysqldump", version: "9.7.0"}
	has := []object{{"VIEW", "v"}, {"EVENT", "e"}, {"FUNCTION", "F"}, {"FUNCTION", "agg"}, {"PROCEDURE", "p`p"}, {"PACKAGE", "pack"}, {"LIBRARY", "odd\n;name"}}
	require.NoError(t, p.refuseIncomplete([]byte(text), "d", has))
	err := p.refuseIncomplete([]byte(text), "d", append(has, object{"FUNCTION", "lost"}, object{"FUNCTION", "f"}))
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "lost")
}
