package mysql

// extremes and definitionsOfAll are what both kinds of servers can hold.
const (
	extremes = `
SET sql_mode = 'ALLOW_INVALID_DATES';
CREATE TABLE dates (d date, t datetime(6), s timestamp(3) NULL, y year, i time(2)); INSERT INTO dates VALUES ('0000-00-00', '0000-00-00 00:00:00', NULL, 0, '-838:59:59'), ('2024-02-29', '2024-02-29 23:59:59.999999', '2024-02-29 01:02:03.004', 2155, '12:00:00.25'), ('2024-02-31', NULL, NULL, NULL, NULL);
SET sql_mode = DEFAULT;
CREATE TABLE numbers (d decimal(65, 30), f float, g double, b bit(64), t tinyint(1) unsigned zerofill, u bigint unsigned, PRIMARY KEY (u)) COMMENT 'it''s AUTO_INCREMENT=5 ) ENGINE=';
INSERT INTO numbers VALUES (-1.000000000000000000000000000001, 1.5, 1e300, b'1010', 7, 18446744073709551615);
`
	definitionsOfAll = `
CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW checked AS SELECT * FROM self WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE VIEW deep AS SELECT n.name, twice_of(1) AS two FROM first_names n; CREATE VIEW ` + "`odd ``view.日é`" + ` AS SELECT 'it''s' AS ` + "`a b`" + `;
CREATE TRIGGER pets_second BEFORE INSERT ON pets FOR EACH ROW FOLLOWS pets_before SET NEW.t = concat(NEW.t, ''); CREATE TRIGGER pets_after AFTER DELETE ON pets FOR EACH ROW BEGIN END;
SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'; CREATE FUNCTION quoted_one() RETURNS text DETERMINISTIC RETURN 'a' || 'b'; SET sql_mode = DEFAULT;
CREATE PROCEDURE looped(OUT x int, INOUT y text) READS SQL DATA SQL SECURITY INVOKER BEGIN DECLARE c CURSOR FOR SELECT 1; DECLARE CONTINUE HANDLER FOR NOT FOUND SET x = 1; OPEN c; FETCH c INTO x; CLOSE c; /* it's */ END;
CREATE EVENT once ON SCHEDULE AT '2036-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE COMMENT 'it''s' DO INSERT INTO self VALUES (9, NULL);`
)

// everything is what a database can hold, beyond richDatabase.
const everything = richDatabase + extremes + `CREATE TABLE texts (a varchar(20) CHARACTER SET latin1 COLLATE latin1_german2_ci, b text CHARACTER SET utf8mb4, c char(3) CHARACTER SET ucs2, d varbinary(10), e tinyblob, FULLTEXT KEY (b)) CHARACTER SET ascii;
INSERT INTO texts VALUES ('äöü', '😀\0\Z\r\n', 'ж', x'00ff', x'27225c'), ('', '', '', '', '');
CREATE TABLE self (id int PRIMARY KEY, up int, FOREIGN KEY up_key (up) REFERENCES self (id) ON DELETE SET NULL ON UPDATE CASCADE); INSERT INTO self VALUES (1, NULL), (2, 1);
CREATE TABLE indexed (j json, v varchar(20) AS (json_value(j, '$.a')) VIRTUAL, KEY k (v), g point NOT NULL, SPATIAL KEY (g), hidden int INVISIBLE DEFAULT 3, h uuid, CONSTRAINT sane CHECK (json_valid(j)));
INSERT INTO indexed (j, g, h) VALUES ('{"a": "x"}', point(1, 2), '00000000-0000-0000-0000-00000000000f');
CREATE TABLE myisam (a int) ENGINE=MyISAM; INSERT INTO myisam VALUES (1); CREATE TABLE aria (a int) ENGINE=Aria TRANSACTIONAL=1; CREATE TABLE memory (a int) ENGINE=MEMORY; INSERT INTO memory VALUES (1);
CREATE TABLE versioned (a int) WITH SYSTEM VERSIONING; INSERT INTO versioned VALUES (1);
CREATE TABLE keyed (a int, b int, PRIMARY KEY (a)) PARTITION BY HASH (a) PARTITIONS 3; INSERT INTO keyed SELECT seq, seq FROM seq_1_to_30;
CREATE TABLE listed (k varchar(5), s int) PARTITION BY LIST COLUMNS (k) SUBPARTITION BY HASH (s) SUBPARTITIONS 2 (PARTITION pa VALUES IN ('a'), PARTITION pb VALUES IN ('b', NULL)); INSERT INTO listed VALUES ('a', 1), (NULL, 2);` + definitionsOfAll + `
CREATE SEQUENCE backwards START WITH -1 INCREMENT BY -1 MINVALUE -100 MAXVALUE 0 CYCLE NOCACHE; DO NEXTVAL(backwards);`

// everythingOfMySQL is the same for MySQL, with what only MySQL has.
const everythingOfMySQL = richDatabase + extremes + `CREATE TABLE texts (a varchar(20) CHARACTER SET latin1 COLLATE latin1_german2_ci, b text CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs, c char(3) CHARACTER SET utf16, d varbinary(10), e tinyblob, FULLTEXT KEY (b)) CHARACTER SET ascii;
INSERT INTO texts VALUES ('äöü', '😀\0\Z\r\n', 'ж', x'00ff', x'27225c'), ('', '', '', '', '');
CREATE TABLE self (id int PRIMARY KEY, up int, CONSTRAINT up_key FOREIGN KEY (up) REFERENCES self (id) ON DELETE SET NULL ON UPDATE CASCADE); INSERT INTO self VALUES (1, NULL), (2, 1);
CREATE TABLE indexed (j json, v varchar(20) AS (json_unquote(json_extract(j, '$.a'))) VIRTUAL, n int, KEY k (v), KEY of_it ((n + 1), n DESC), KEY out_of_sight (n) INVISIBLE, g point NOT NULL SRID 4326, SPATIAL KEY (g),
	hidden int DEFAULT 3 INVISIBLE, h binary(16) DEFAULT (uuid_to_bin(uuid())), l json DEFAULT (json_array(1)), KEY members ((CAST(l AS UNSIGNED ARRAY))), vec vector(3),
	CONSTRAINT sane CHECK (json_valid(j)), CONSTRAINT aside CHECK (n < 0) NOT ENFORCED);
INSERT INTO indexed (j, n, g, h, l, vec) VALUES ('{"a": "x", "b": "it''s \\\\ 😀"}', 5, ST_GeomFromText('POINT(1 2)', 4326), unhex('0000000000000000000000000000000f'), '[1, 2]', string_to_vector('[1.5, -2, 3e10]'));
SET sql_generate_invisible_primary_key = ON; CREATE TABLE keyless (a int); INSERT INTO keyless VALUES (1), (2); SET sql_generate_invisible_primary_key = OFF;
CREATE TABLE myisam (a int) ENGINE=MyISAM; INSERT INTO myisam VALUES (1); CREATE TABLE csv (a int NOT NULL) ENGINE=CSV; INSERT INTO csv VALUES (1); CREATE TABLE memory (a int) ENGINE=MEMORY; INSERT INTO memory VALUES (1);
CREATE TABLE keyed (a int, b int, PRIMARY KEY (a)) PARTITION BY HASH (a) PARTITIONS 3; INSERT INTO keyed SELECT seq, seq FROM seq_1_to_30;
CREATE TABLE listed (k varchar(5), s int) PARTITION BY LIST COLUMNS (k) SUBPARTITION BY HASH (s) SUBPARTITIONS 2 (PARTITION pa VALUES IN ('a'), PARTITION pb VALUES IN ('b', NULL)); INSERT INTO listed VALUES ('a', 1), (NULL, 2);` + definitionsOfAll

// dualityViews are of MySQL, since 9.4.
const dualityViews = `
CREATE TABLE clubs (id int PRIMARY KEY, name varchar(20)); CREATE TABLE members (id int PRIMARY KEY, club int, FOREIGN KEY (club) REFERENCES clubs (id));
INSERT INTO clubs VALUES (1, 'it''s'); INSERT INTO members VALUES (7, 1);
CREATE JSON RELATIONAL DUALITY VIEW clubs_as_json AS SELECT JSON_DUALITY_OBJECT(WITH(INSERT,UPDATE,DELETE) '_id': id, 'name': name,
	'members': (SELECT JSON_ARRAYAGG(JSON_DUALITY_OBJECT(WITH(INSERT,UPDATE,DELETE) 'id': id, 'club': club)) FROM members WHERE members.club = clubs.id)) FROM clubs`
