"""What belongs to a database and is in no dump of it: who owns it, who may do what with it, its settings and locale.

A database that takes the place of another has to have all of it, or the application would find itself locked out of
what was restored, or others let in.
"""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from backups.engines.base import Hand
from backups.programs import Server

# Columns came and went with the versions of the server, so the row is asked as a whole.
LOCALE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')
  FROM pg_database d WHERE datname = %s
"""
OWNER = "SELECT pg_get_userbyid(datdba), datconnlimit, datacl IS NOT NULL FROM pg_database WHERE datname = %s"
# Grants of grants need those before them; the owner's own come with the ownership.
GRANTS = """
SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
  FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE d.datname = %s ORDER BY a.grantee = d.datdba DESC, a.is_grantable DESC, 1, 2
"""
SETTINGS = """
SELECT coalesce(r.rolname, ''), split_part(one, '=', 1), substr(one, strpos(one, '=') + 1)
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN LATERAL unnest(s.setconfig) one
  LEFT JOIN pg_roles r ON r.oid = s.setrole
 WHERE d.datname = %s ORDER BY 1, 2
"""
PROVIDERS = {"i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}

Connection = psycopg.Connection[tuple[object, ...]]


def locale_like(connection: Connection, present: str) -> sql.Composable:
    """For CREATE DATABASE … TEMPLATE template0: the encoding and locale of a database; nothing if there is none."""
    row = connection.execute(LOCALE, [present]).fetchone()
    if row is None:
        return sql.SQL("")
    encoding, collate, ctype, provider, locale = row
    said = sql.SQL(" ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(*map(sql.Literal, (encoding, collate, ctype)))
    if provider in PROVIDERS:
        name, option = PROVIDERS[str(provider)]
        said += sql.SQL(f" LOCALE_PROVIDER {name} {option} {{}}").format(sql.Literal(locale))
    return said


def take_over(server: Server, present: str, fresh: str, hand: Hand) -> None:
    """Give the fresh database what the present one has. What the server refuses is said, and left as it is."""
    with server.named("postgres").connect(autocommit=True) as connection:
        row = connection.execute(OWNER, [present]).fetchone()
        if row is None:
            return
        owner, limit, has_grants = row
        for what, statements in (
            ("settings", list(_settings(connection, present, fresh))),
            ("privileges", list(_grants(connection, present, fresh)) if has_grants else []),
            ("limit of connections", [_of(fresh, "CONNECTION LIMIT {}", sql.Literal(limit))] if limit != -1 else []),
            ("owner", [_of(fresh, "OWNER TO {}", sql.Identifier(str(owner)))]),
        ):
            _carry_out(connection, what, statements, present, hand)


def _carry_out(connection: Connection, what: str, statements: list[sql.Composed], present: str, hand: Hand) -> None:
    """All of one sort together, or none."""
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        hand.log(f"the {what} of {present} could not be taken over, set them by hand: {said}", level="warning")


def _of(database: str, action: str, *values: sql.Composable) -> sql.Composed:
    return sql.SQL(f"ALTER DATABASE {{}} {action}").format(sql.Identifier(database), *values)


def _grants(connection: Connection, present: str, fresh: str) -> Iterator[sql.Composed]:
    name = sql.Identifier(fresh)
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name)
    for role, privilege, grantable in connection.execute(GRANTS, [present]).fetchall():
        whom = sql.Identifier(str(role)) if role else sql.SQL("PUBLIC")
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(str(privilege)), name, whom)
        yield grant + sql.SQL(" WITH GRANT OPTION" if grantable else "")


def _settings(connection: Connection, present: str, fresh: str) -> Iterator[sql.Composed]:
    """By way of the session, which reads each value as the server wrote it, lists of names too."""
    for role, name, value in connection.execute(SETTINGS, [present]).fetchall():
        yield sql.SQL("SELECT set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
        setting = sql.SQL(".").join(map(sql.Identifier, str(name).split(".")))
        whose = sql.SQL("ROLE {} IN ").format(sql.Identifier(str(role))) if role else sql.SQL("")
        yield sql.SQL("ALTER {}DATABASE {} SET {} FROM CURRENT").format(whose, sql.Identifier(fresh), setting)
