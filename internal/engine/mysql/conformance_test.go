package mysql

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// server lets the suite use a MariaDB or MySQL server.
type server struct{ *testkit.Maria }

func (s server) Conn(database string) engine.Conn { return connTo(s.Maria, database) }

func (s server) Drop(t testing.TB, database string) {
	s.Maria.Exec(t, "", "DROP DATABASE IF EXISTS "+ident(database))
}

func (s server) Exec(t testing.TB, database, statements string) {
	s.Maria.Exec(t, database, statements)
}

func (s server) Fingerprint(t testing.TB, database string) string {
	return plain(t, s.Maria, database)
}

const richDatabase = "SET NAMES utf8mb4;" + `
CREATE TABLE people (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(100) NOT NULL, n int CHECK (n > 0), twice int AS (n * 2) VIRTUAL, thrice int AS (n * 3) STORED,
	kind ENUM('a', 'b''c') DEFAULT 'a', flags SET('x', 'y'), j JSON, bits bit(9), at datetime(6) DEFAULT current_timestamp(6), KEY (name)) AUTO_INCREMENT = 77;
CREATE TABLE pets (id int PRIMARY KEY, owner bigint, blob_ mediumblob, bin_ varbinary(40), t longtext, FOREIGN KEY (owner) REFERENCES people (id) ON DELETE CASCADE);
CREATE TABLE circle_a (id int PRIMARY KEY, b int);
CREATE TABLE circle_b (id int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES circle_a (id));
ALTER TABLE circle_a ADD FOREIGN KEY (b) REFERENCES circle_b (id);
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);
CREATE TABLE ` + "`od``d \"na'me. -x`" + ` (a int);
CREATE TABLE ` + "`--force`" + ` (a int);
CREATE TABLE ` + "`grün Ж 日`" + ` (a int);
CREATE TABLE ` + "`line\nbreak`" + ` (a int);
CREATE TABLE Upper (a int); CREATE TABLE upper (a int);
CREATE TABLE latin (a varchar(50)) CHARACTER SET latin1;
CREATE TABLE places (p point, g geometry);
CREATE TABLE empty_one (a int);
CREATE SEQUENCE counter START WITH 5;
INSERT INTO people (name, n, flags, j, bits) SELECT concat('p', seq), seq, 'x,y', '{"a": [1, "😀"]}', b'101' FROM seq_1_to_500;
INSERT INTO pets SELECT seq, seq + 80, concat(char(0, 10, 13, 39, 34, 92, 255), seq), unhex('00ff0a27'), 'line
break; -- no comment ),\n(''x''); DELIMITER ;; 😀 \\! \\. ' FROM seq_1_to_300;
INSERT INTO circle_a VALUES (1, NULL); INSERT INTO circle_b VALUES (1, 1); UPDATE circle_a SET b = 1;
INSERT INTO parts SELECT seq, '2020-01-01' FROM seq_1_to_20;
INSERT INTO ` + "`od``d \"na'me. -x`" + ` VALUES (1), (2);
INSERT INTO ` + "`--force`" + ` VALUES (1);
INSERT INTO ` + "`grün Ж 日`" + ` VALUES (1);
INSERT INTO ` + "`line\nbreak`" + ` VALUES (1);
INSERT INTO Upper VALUES (1); INSERT INTO upper VALUES (1), (2);
INSERT INTO latin VALUES ('grün'), ('café'), ('');
INSERT INTO places VALUES (point(1, 2), ST_GeomFromText('LINESTRING(0 0, 1 1)'));
CREATE VIEW names AS SELECT name FROM people;
CREATE VIEW first_names AS SELECT name FROM names WHERE name LIKE 'p1%';
CREATE FUNCTION twice_of(x int) RETURNS int DETERMINISTIC RETURN x * 2;
CREATE PROCEDURE add_one(IN x int) COMMENT 'it''s' BEGIN
	-- Table structure for table ` + "`fake`" + `
	INSERT INTO people (name, n) VALUES ('LOCK TABLES ` + "`people`" + ` WRITE;', x);
	SELECT '-- Dump completed';
END;
CREATE TRIGGER pets_before BEFORE INSERT ON pets FOR EACH ROW BEGIN SET NEW.t = NEW.t; END;
CREATE EVENT nothing ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO BEGIN SELECT 1; END;`

// nameRune takes the place of what names cannot hold here; for line breaks see
// richDatabase.
func nameRune(r rune) rune {
	switch {
	case r > 0xffff:
		return '語'
	case r == '\n':
		return 'N'
	}
	return r
}

func TestConformance(t *testing.T) {
	m := testkit.MariaDB(t)
	everything := everything
	if _, num := parseNumber(m.Version); m.IsMySQL {
		everything = everythingOfMySQL
		if num >= 90400 {
			everything += dualityViews
		}
	} else if num < 100700 { // which has no type of that name
		everything = strings.ReplaceAll(everything, "h uuid", "h char(36)")
	}
	enginetest.Run(t, enginetest.Subject{
		Engine:    New(Config{}),
		Server:    server{m},
		NewServer: func(t testing.TB) enginetest.MortalServer { return server{testkit.NewMariaDB(t)} },
		Format:    formatOf(flavorOf(m)), Member: Member,
		Hostile: richDatabase,
		HostileTables: map[string]int64{
			"people": 500, "pets": 300, "circle_a": 1, "circle_b": 1, "parts": 20, "od`d \"na'me. -x": 2, "--force": 1, "grün Ж 日": 1,
			"line\nbreak": -1, "Upper": 1, "upper": 2, "latin": 3, "places": 1, "empty_one": 0,
		},
		Large:      "CREATE TABLE large AS SELECT seq g, repeat(sha2(seq, 256), 15) t FROM seq_1_to_13000",
		Small:      "CREATE TABLE small AS SELECT seq g FROM seq_1_to_3",
		Everything: everything,
		Dialect: enginetest.Dialect{
			Quote: func(name string) string { return ident(strings.Map(nameRune, name)) },
			Text:  "CONVERT(x'%s' USING utf8mb4)", Bytes: "x'%s'", TextType: "longtext", BytesType: "longblob", NumberType: "bigint",
			After: " CHARACTER SET utf8mb4",
		},
	})
}

func TestTLSModes(t *testing.T) {
	files := enginetest.NewTLSFiles(t, "mysql")
	m := testkit.NewMariaDB(t, testkit.WithFlag("--ssl-cert="+files.Cert), testkit.WithFlag("--ssl-key="+files.Key))
	enginetest.RunTLS(t, enginetest.Subject{
		Engine: New(Config{}), Server: server{m}, Member: Member,
		Small: "CREATE TABLE small AS SELECT seq g FROM seq_1_to_3",
	}, files)
}

func TestALargeValueComesBackInBoundedMemory(t *testing.T) {
	m := testkit.MariaDB(t)
	var before int64 // which DEFAULT is not: the server was started with a value of its own
	require.NoError(t, m.DB(t, "").QueryRow("SELECT @@global.max_allowed_packet").Scan(&before))
	m.Exec(t, "", "SET GLOBAL max_allowed_packet = 1073741824")
	t.Cleanup(func() { m.Exec(t, "", fmt.Sprintf("SET GLOBAL max_allowed_packet = %d", before)) })
	value := fmt.Sprintf("repeat(sha2('x', 256), %d DIV 64)", enginetest.LargeValue)
	enginetest.RunValue(t, enginetest.Subject{Engine: New(Config{}), Server: server{m}, Format: formatOf(flavorOf(m))},
		"CREATE TABLE vast AS SELECT "+value+" v",
		"CREATE PROCEDURE whole() BEGIN IF NOT (SELECT v = "+value+" FROM vast) THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the value is not whole'; END IF; END; CALL whole()")
}

// The tables are of an engine that makes them quickly.
func carryTables(t testing.TB, n int) {
	t.Helper()
	m := testkit.MariaDB(t)
	enginetest.RunTables(t, enginetest.Subject{Engine: New(Config{}), Server: server{m}, Format: formatOf(flavorOf(m)), Member: Member}, n,
		countingTo+`SET @s = CONCAT('CREATE TABLE t', i, ' ENGINE=MyISAM AS SELECT ', i, ' AS g'); PREPARE p FROM @s; EXECUTE p;
	END WHILE; END; CALL counting(); DROP PROCEDURE counting`,
		countingTo+`SET @s = CONCAT('SELECT g INTO @found FROM t', i); PREPARE p FROM @s; EXECUTE p;
		IF @found <> i THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a table is not what it was'; END IF;
	END WHILE; END; CALL counting()`)
}

// countingTo begins a procedure that does what follows for i from 1 on.
const countingTo = "CREATE PROCEDURE counting() BEGIN DECLARE i int DEFAULT 0; WHILE i < %d DO SET i = i + 1; "

func TestManyTablesComeBack(t *testing.T) { carryTables(t, enginetest.ManyTables) }

func BenchmarkFiveThousandTables(b *testing.B) {
	for b.Loop() {
		carryTables(b, enginetest.VastTables)
	}
}
