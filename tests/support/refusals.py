"""A database that refuses certain rows, as one does that is full or whose rules changed."""

from sqlalchemy.engine import make_url

from tests.support.databases import execute

__all__ = ["WHY", "refuse", "refuse_nothing"]

WHY = "disk full"
_MYSQL = (
    "CREATE TRIGGER refuse BEFORE {change} ON {table} FOR EACH ROW "
    f"IF {{when}} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{WHY}'; END IF"
)
_REFUSE = {
    "sqlite": (
        f"CREATE TRIGGER refuse BEFORE {{change}} ON {{table}} WHEN {{when}} BEGIN SELECT RAISE(ABORT, '{WHY}'); END",
    ),
    "postgresql": (
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{WHY}'; END $$",
        "CREATE TRIGGER refuse BEFORE {change} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()",
    ),
    "mysql": (_MYSQL,),
    "mariadb": (_MYSQL,),
}
_ACCEPT = {
    "sqlite": ("DROP TRIGGER refuse",),
    "postgresql": ("DROP FUNCTION refuse CASCADE",),
    "mysql": ("DROP TRIGGER refuse",),
    "mariadb": ("DROP TRIGGER refuse",),
}


def refuse(url: str, change: str, table: str, when: str) -> None:
    """From now on no row of `table` is inserted or updated (`change`) that meets the condition `when` on NEW."""
    for statement in _REFUSE[make_url(url).get_backend_name()]:
        execute(url, statement.format(change=change, table=table, when=when))


def refuse_nothing(url: str) -> None:
    """Refuse no row any more."""
    for statement in _ACCEPT[make_url(url).get_backend_name()]:
        execute(url, statement)
