# SPDX-License-Identifier: Apache-2.0
"""What SQL may be, and what it is found to read."""

from __future__ import annotations

import pytest

from fleet_audit.sql import SqlError, parse

READS = [
    ("SELECT host FROM os", {"os"}, set()),
    ("SELECT host FROM a JOIN b USING (host)", {"a", "b"}, set()),
    ("SELECT host FROM a LEFT JOIN b USING (host)", {"a", "b"}, {"b"}),
    ("SELECT host FROM a RIGHT JOIN b USING (host)", {"a", "b"}, {"a"}),
    ("SELECT host FROM a FULL JOIN b USING (host)", {"a", "b"}, {"a", "b"}),
    ("SELECT host FROM a ANTI JOIN b USING (host)", {"a", "b"}, {"b"}),
    ("SELECT host FROM a SEMI JOIN b USING (host)", {"a", "b"}, {"b"}),
    ("SELECT host FROM a WHERE EXISTS (SELECT 1 FROM b)", {"a", "b"}, {"b"}),
    ("SELECT host FROM a WHERE x IN (SELECT y FROM b)", {"a", "b"}, {"b"}),
    ("SELECT host, (SELECT max(y) FROM b) FROM a", {"a", "b"}, {"b"}),
    ("SELECT host, count(*) FROM a GROUP BY host", {"a"}, {"a"}),
    ("SELECT host, row_number() OVER (ORDER BY x) FROM a", {"a"}, {"a"}),
    ("SELECT host FROM a EXCEPT SELECT host FROM b", {"a", "b"}, {"b"}),
    ("SELECT host FROM a UNION ALL SELECT host FROM b", {"a", "b"}, set()),
    ("WITH t AS (SELECT * FROM a) SELECT host FROM t", {"a"}, set()),
    ("WITH t AS (SELECT * FROM a) SELECT host FROM b LEFT JOIN t USING (host)", {"a", "b"}, {"a"}),
    ("WITH os AS (SELECT * FROM kernel) SELECT host FROM os", {"kernel"}, set()),
    ("WITH os AS (SELECT * FROM os) SELECT host FROM os", {"os"}, set()),
    ("SELECT host FROM (SELECT * FROM a LEFT JOIN b USING (host))", {"a", "b"}, {"b"}),
    ("SELECT host, v FROM a, unnest(x) t(v)", {"a"}, set()),
]


@pytest.mark.parametrize(("text", "tables", "absence"), READS, ids=[r[0] for r in READS])
def test_reads(text: str, tables: set[str], absence: set[str]) -> None:
    found = parse(text)
    assert (set(found.tables), set(found.absence)) == (tables, absence)


REFUSED = [
    ("DROP TABLE os", "only a SELECT"),
    ("SELECT 1; SELECT 2", "one statement"),
    ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "only SELECT"),
    ("WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t", "recursion"),
    ("SELECT * FROM query('select 1')", "not allowed"),
    ("SELECT * FROM read_text('/etc/passwd')", "not allowed"),
    ("SELECT * FROM main.os", "without a schema"),
    ("SELECT now()", "not allowed"),
    ("SELECT random()", "not allowed"),
    ("SELECT repeat('x', 1000000000)", "not allowed"),
    ("SELECT current_setting('threads')", "not allowed"),
    ("SELECT x / 2 FROM os", "not allowed"),
    ("SELECT x::INTEGER FROM os", "TRY_CAST"),
    ("SELECT host FROM os WHERE id = NULL", "use IS NULL"),
    ("SELECT host, NULL <> id AS pass FROM os", "use IS NULL"),
    ("SELECT host FROM os WHERE x NOT IN (SELECT y FROM k)", "NOT EXISTS"),
    ("SELECT host FROM os LIMIT 3", "LIMIT"),
    ("SELECT string_agg(x, ',') FROM os", "ORDER BY"),
    ("SELECT * FROM os TABLESAMPLE 10%", "SAMPLE"),
    ("SELECT host FROM os USING SAMPLE 1 ROWS", "SAMPLE"),
    ("SELECT host FROM (SELECT host FROM os USING SAMPLE 1 ROWS)", "SAMPLE"),
    ("SELECT DISTINCT ON (host) host, id FROM os", "DISTINCT ON"),
    ("SELECT host FROM os UNION (SELECT DISTINCT ON (host) host FROM packages)", "DISTINCT ON"),
    ("SELECT version_key('dpkg', version) FROM packages", "literal"),
    ("SELECT $missing FROM os", "not declared"),
    ("SELEC 1", "not understood"),
    ("SELECT 'a\0b'", "NUL"),
    ("", "one statement"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[r[0][:40] for r in REFUSED])
def test_refused(text: str, words: str) -> None:
    with pytest.raises(SqlError, match=words):
        parse(text, types={})


def test_version_keys_become_hidden_parameters() -> None:
    found = parse("SELECT é > version_key('dotted', $p), b < version_key('dpkg', '1:2') FROM \"ü\"", types={"p": "VARCHAR"})
    assert found.version_keys == {"version_key_0": ("dotted", None, "p"), "version_key_1": ("dpkg", "1:2", None)}
    assert "CAST($version_key_0 AS VARCHAR)" in found.text
    assert "version_key(" not in found.text
    assert found.bound == {"version_key_0", "version_key_1"}
    assert found.parameters == {"p"}


def test_parameters_are_cast_to_their_types() -> None:
    found = parse("SELECT list_contains($ports, port) FROM sockets", types={"ports": "BIGINT[]"})
    assert found.text == "SELECT list_contains(CAST($ports AS BIGINT[]), port) FROM sockets"
