package mysql

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

const (
	textOfTownsV = "--\n-- Temporary view structure for view `locals`\n--\n\n" +
		"DROP TABLE IF EXISTS `locals`;\n/*!50001 DROP VIEW IF EXISTS `locals`*/;\nSET @saved_cs_client     = @@character_set_client;\n/*!50503 SET character_set_client = utf8mb4 */;\n" +
		"/*!50001 CREATE VIEW `locals` AS SELECT \n 1 AS `id`,\n 1 AS `town`*/;\nSET character_set_client = @saved_cs_client;\n"
	textOfTowns = "--\n-- Table structure for table `towns`\n--\n\n" +
		"DROP TABLE IF EXISTS `towns`;\n/*!40101 SET @saved_cs_client     = @@character_set_client */;\n/*!50503 SET character_set_client = utf8mb4 */;\n" +
		"CREATE TABLE `towns` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB;\n/*!40101 SET character_set_client = @saved_cs_client */;\n\n"
	rowsOfTowns = "--\n-- Dumping data for table `towns`\n--\n-- WHERE:  id > 0\n-- ORDER BY:  `id`\n\n" +
		"LOCK TABLES `towns` WRITE;\n/*!40000 ALTER TABLE `towns` DISABLE KEYS */;\nINSERT INTO `towns` VALUES (1);\n/*!40000 ALTER TABLE `towns` ENABLE KEYS */;\nUNLOCK TABLES;\n" +
		"DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`%`*/ /*!50003 TRIGGER `tr` BEFORE INSERT ON `towns` FOR EACH ROW begin\n--\n-- what a body says\n--\nend */;;\nDELIMITER ;\n\n"
	textOfPeople  = "--\n-- Table structure for table `people`\n--\n\nDROP TABLE IF EXISTS `people`;\nCREATE TABLE `people` (\n  `id` int\n);\n\n"
	textOfEvents  = "--\n-- Dumping events for database 'shop'\n--\nDELIMITER ;;\n/*!50106 CREATE*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 1 */ ;;\nDELIMITER ;\n\n"
	textOfSomeNew = "--\n-- Masking policy structure for policy `towns`\n--\n\nCREATE MASKING POLICY `towns`;\n\n"
	finalOfTownsV = "--\n-- Final view structure for view `locals`\n--\n\n/*!50001 DROP VIEW IF EXISTS `locals`*/;\n" +
		"/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`root`@`%` SQL SECURITY DEFINER */\n/*!50001 VIEW `locals` AS select `towns`.`id` AS `id` from `towns` */;\n"
	headOfText = "-- MySQL dump 10.13  Distrib 9.7.0, for Linux (x86_64)\n--\n-- Host: db    Database: shop\n-- ------------------------------------------------------\n-- Server version\t9.7.0\n\n/*!40103 SET TIME_ZONE='+00:00' */;\n"
	footOfText = footerBegin + "\n\n/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n-- Dump completed\n"
)

// The text is as mysqldump 9.7 writes it, with a view after each kind of section.
func TestOnlyTheSectionsOfWantedTablesPass(t *testing.T) {
	mariaDB := strings.NewReplacer("-- Temporary view structure", "-- Temporary table structure").Replace
	for name, text := range map[string]string{
		"MySQL":   headOfText + textOfTowns + rowsOfTowns + textOfTownsV + textOfPeople + textOfTownsV + textOfEvents + textOfSomeNew + finalOfTownsV + textOfTowns + textOfSomeNew + footOfText,
		"MariaDB": mariaDB(headOfText + textOfTowns + rowsOfTowns + textOfTownsV + textOfPeople + textOfTownsV + textOfEvents + textOfSomeNew + finalOfTownsV + textOfTowns + textOfSomeNew + footOfText),
		"again":   headOfText + textOfTowns + rowsOfTowns + footOfText + headOfText + textOfTownsV + textOfEvents + finalOfTownsV + textOfTowns + footOfText,
	} {
		for _, tables := range [][]string{{"towns"}, {"shop.towns", "locals"}, {"locals"}, {"people"}} {
			t.Run(name+" "+strings.Join(tables, ","), func(t *testing.T) {
				f := newFilter(iotest.OneByteReader(strings.NewReader(text)), "shop", tables)
				f.setAside = true
				raw, err := io.ReadAll(f)
				require.NoError(t, err)
				kept, views := string(raw), f.views.String()
				has := func(wanted bool, in, part string) {
					require.Equal(t, wanted, strings.Contains(in, part), "%q in %s", part, in)
				}
				towns, locals := strings.Contains(tables[0], "towns"), tables[len(tables)-1] == "locals"
				has(towns, kept, "CREATE TABLE `towns`")
				has(towns && strings.Contains(text, rowsOfTowns), kept, "INSERT INTO `towns` VALUES (1);\n")
				has(towns && strings.Contains(text, rowsOfTowns), kept, "-- what a body says\n--\nend */;;\nDELIMITER ;\n")
				has(tables[0] == "people" && name != "again", kept, "CREATE TABLE `people`")
				has(locals, views, "CREATE VIEW `locals` AS SELECT \n 1 AS `id`,\n 1 AS `town`*/;")
				has(locals, views, "VIEW `locals` AS select `towns`")
				for _, foreign := range []string{"`locals`", "EVENT", "POLICY"} {
					has(false, kept, foreign)
				}
				for _, foreign := range []string{"`people`", "TABLE `towns`", "EVENT", "POLICY", "SQL_NOTES"} {
					has(false, views, foreign)
				}
				has(true, kept, "SET TIME_ZONE='+00:00'")
				has(true, kept, footOfText)
			})
		}
	}
	whole := headOfText + textOfTowns + textOfSomeNew + textOfEvents + footOfText
	raw, err := io.ReadAll(newFilter(strings.NewReader(whole), "shop", nil))
	require.NoError(t, err)
	require.Equal(t, whole, string(raw), "without include_tables all passes")
}

// MySQL keeps the semicolon of a statement that came among others, where it is the last of
// its comment; any other is part of a body or of the data.
func TestASurplusSemicolonBeforeTheEndOfACommentIsLeftOut(t *testing.T) {
	const trigger = "/*!50003 CREATE*/ /*!50003 TRIGGER `tr` BEFORE INSERT ON `a` FOR EACH ROW SET NEW.x = ';'"
	const event = "/*!50106 CREATE*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO\nBEGIN SELECT 1; \n END"
	for name, text := range map[string]string{
		"MySQL":        headOfText + "DELIMITER ;;\n" + trigger + "; */;;\n" + event + "; */ ;;\nDELIMITER ;\n" + footOfText,
		"MariaDB":      headOfText + "DELIMITER ;;\n" + trigger + "; \n*/;;\n" + event + "; \n*/ ;;\nDELIMITER ;\n" + footOfText,
		"at the end":   headOfText + "DELIMITER ;;\n" + trigger + ";  \n*/;;\n" + event + "; \n*/ ;;\n",
		"none":         headOfText + "DELIMITER ;;\n" + trigger + " \n*/;;\n" + event + " \n*/ ;;\nDELIMITER ;\n" + footOfText,
		"a short rest": trigger + "; \n*/",
		"no rest":      trigger + "; \n",
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := io.ReadAll(newFilter(iotest.OneByteReader(strings.NewReader(text)), "shop", nil))
			require.NoError(t, err)
			want := text
			for _, end := range []string{"; */;;", "; */ ;;", "; \n*/;;", ";  \n*/;;", "; \n*/ ;;"} {
				want = strings.ReplaceAll(want, end, strings.TrimLeft(strings.TrimPrefix(end, ";"), " "))
			}
			squeeze := strings.NewReplacer(" \n*/", "*/", "\n*/", "*/", " */", "*/").Replace
			require.Equal(t, squeeze(want), squeeze(string(raw)))
			require.Equal(t, squeeze(strings.ReplaceAll(want, "\n\n", "\n")), squeeze(strings.ReplaceAll(string(withoutTables([]byte(text))), "\n\n", "\n")))
		})
	}
	broken := errors.New("storage lost")
	_, err := io.ReadAll(newFilter(io.MultiReader(strings.NewReader(trigger+"; \n"), iotest.ErrReader(broken)), "shop", nil))
	require.ErrorIs(t, err, broken)
}
