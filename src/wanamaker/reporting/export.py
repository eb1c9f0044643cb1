"""Tables out of the house: Parquet and CSV files, and any database that SQLAlchemy reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wanamaker.errors import UserError
from wanamaker.predictions import atomic_path

if TYPE_CHECKING:  # loaded where they are needed: the menu of experiments must not wait for them
    import pandas as pd
    import sqlalchemy as sa

FORMATS = ("parquet", "csv")
IF_EXISTS = ("run", "fail", "append", "replace")
RUN_COLUMN = "run_id"
_TEXT_LENGTH = 255  # of an indexed text column: MySQL and SQL Server cannot index text without a length
_ROWS_PER_STATEMENT = 5000


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """The formats, each once.

    Raises:
        UserError: a format that cannot be written.
    """
    formats = tuple(dict.fromkeys(formats))
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"formats: there is no table format {name!r}; choose from {', '.join(FORMATS)}.")
    return formats


def write_tables(
    tables: Mapping[str, pd.DataFrame], folder: Path, formats: Iterable[str] = FORMATS, run_id: str | None = None
) -> list[Path]:
    """Write ``<folder>/<table>.<format>`` for every table; each file is replaced at once or not at all.

    Args:
        tables: by name.
        folder: created where missing.
        formats: of `FORMATS`.
        run_id: goes into the first column where given.

    Raises:
        UserError: unknown format, folder not writable, or disk full.
    """
    written = []
    for name, table in tables.items():
        table = _with_run(table, run_id) if run_id is not None else table
        for ending in check_formats(formats):
            path = Path(folder) / f"{name}.{ending}"
            with atomic_path(path) as temporary:
                if ending == "parquet":
                    table.to_parquet(temporary, index=False, compression="zstd")
                else:
                    table.to_csv(temporary, index=False, encoding="utf-8")
            written.append(path)
    return written


def check_database_url(url: str | sa.URL) -> sa.URL:
    """Parse a database URL and load its driver, so that a mistake is found before hours of work.

    Raises:
        UserError: not a URL, an unknown database, one that ends with the process, or a driver that is not installed. A
            password never shows.
    """
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise UserError(
            f"database_url {_hidden(url)!r} is not a database URL: write it as "
            "dialect+driver://user:password@host:port/database, for example sqlite:///attributes.db."
        ) from error
    try:
        parsed.get_dialect().import_dbapi()
    except sa.exc.NoSuchModuleError as error:
        raise UserError(
            f"database_url {_shown(parsed)}: SQLAlchemy knows no database {parsed.drivername!r}. Check the spelling "
            "(sqlite, postgresql+psycopg, mysql+pymysql, ...), or install the package that adds it."
        ) from error
    except ImportError as error:
        package = error.name or parsed.drivername
        raise UserError(
            f"database_url {_shown(parsed)}: the driver {package!r} is not installed. Install it "
            f"(pip install {package}), or name another one as dialect+driver://."
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError(
            f"database_url {_shown(parsed)} is a database in memory, which ends with the run: name a file, "
            "sqlite:///results.db."
        )
    return parsed


def check_destination(database: str | None, table: str, if_exists: str) -> None:
    """Check where a decision is to put its one table, so that a mistake is found before hours of work.

    Raises:
        UserError: `decision.if_exists` or `decision.table` cannot be, or the URL or its driver is wrong.
    """
    if if_exists not in IF_EXISTS:
        raise UserError(f"decision.if_exists={if_exists!r}: choose from {', '.join(IF_EXISTS)}.")
    if not str(table).isidentifier():
        raise UserError(f"decision.table={table!r}: name a table with letters, digits and underscores.")
    if database is not None:
        check_database_url(database)


def write_database(tables: Mapping[str, pd.DataFrame], url: str | sa.URL, run_id: str, if_exists: str = "run") -> str:
    """Put tables into a database, with the run id as first column, in one transaction.

    By default rows of the same run are replaced, rows of other runs stay: writing twice is the same as writing once. A
    table that does not exist is created, with an index on run id (and image id where there is one).

    Args:
        tables: by table name.
        url: any SQLAlchemy URL. The folder of an SQLite file is created.
        run_id: the run these rows belong to.
        if_exists: what to do where a table of that name is there: "run" replaces the rows of this run, "append" adds
            rows, "replace" drops it first, "fail" refuses.

    Returns:
        The URL as it may be shown, without its password.

    Raises:
        UserError: the URL is wrong, the driver missing, the database cannot be reached or written, or it holds a table
            of that name (`if_exists="fail"`), or one with other columns. Nothing is changed in it then.
    """
    import sqlalchemy as sa

    parsed = check_database_url(url)
    shown = _shown(parsed)
    frames = {name: _with_run(table, run_id) for name, table in tables.items()}
    if parsed.get_backend_name() == "sqlite":
        _make_folder(Path(parsed.database), shown)
    try:
        engine = sa.create_engine(parsed)
    except (sa.exc.SQLAlchemyError, TypeError, ValueError) as error:
        raise UserError(f"database_url {shown} is not accepted by its driver: {_reason(error, parsed)}.") from error
    if parsed.get_backend_name() == "sqlite":
        _begin_explicitly(engine)
    try:
        with engine.begin() as connection:
            for name, frame in frames.items():
                _put_rows(connection, name, frame, run_id, shown, if_exists)
    except sa.exc.OperationalError as error:
        raise UserError(
            f"Cannot write to the database {shown}: {_reason(error, parsed)}. "
            "Check that it runs, and host, port, name, user and rights; nothing was changed in it."
        ) from error
    except sa.exc.SQLAlchemyError as error:
        raise UserError(f"The database {shown} refused the tables: {_reason(error, parsed)}.") from error
    finally:
        engine.dispose()
    return shown


def _put_rows(
    connection: sa.Connection, name: str, frame: pd.DataFrame, run_id: str, shown: str, if_exists: str
) -> None:
    import sqlalchemy as sa

    table = sa.Table(name, sa.MetaData(), *_columns(name, frame))
    inspector = sa.inspect(connection)
    if inspector.has_table(name) and if_exists == "fail":
        raise UserError(
            f"Table {name!r} is already in {shown}, and if_exists is 'fail', so nothing was written to it. Name "
            f"another table, or choose {', '.join(choice for choice in IF_EXISTS if choice != 'fail')}."
        )
    if inspector.has_table(name) and if_exists == "replace":
        table.drop(connection)
        table.create(connection)
    elif inspector.has_table(name):
        present = {column["name"] for column in inspector.get_columns(name)}
        wanted = {column.name for column in table.columns}
        if not wanted <= present:
            raise UserError(
                f"Table {name!r} in {shown} has no column {', '.join(sorted(wanted - present))}: it was made by "
                "something else, or by another version. Name another database in database_url, or drop the table."
            )
        if if_exists == "run":
            connection.execute(sa.delete(table).where(table.c[RUN_COLUMN] == run_id))
    else:
        table.create(connection)
    records = _records(frame)
    for start in range(0, len(records), _ROWS_PER_STATEMENT):
        connection.execute(sa.insert(table), records[start : start + _ROWS_PER_STATEMENT])


def _columns(name: str, frame: pd.DataFrame) -> list[sa.SchemaItem]:
    import pandas.api.types as kinds
    import sqlalchemy as sa

    columns: list[sa.SchemaItem] = []
    for column, dtype in frame.dtypes.items():
        if column == RUN_COLUMN:
            kind: sa.types.TypeEngine = sa.String(_TEXT_LENGTH)
        elif kinds.is_bool_dtype(dtype):
            kind = sa.Boolean()
        elif kinds.is_integer_dtype(dtype):
            kind = sa.BigInteger()
        elif kinds.is_float_dtype(dtype):
            kind = sa.Double()
        elif kinds.is_datetime64_any_dtype(dtype):
            kind = sa.DateTime()
        else:
            kind = sa.Text()
        columns.append(sa.Column(column, kind, nullable=column != RUN_COLUMN))
    indexed = [column for column in (RUN_COLUMN, "image_id") if column in frame.columns]
    return [*columns, sa.Index(f"ix_{name}_run", *indexed)]


def _records(frame: pd.DataFrame) -> list[dict]:
    """Rows as Python values, what is missing as None: drivers do not know NumPy's types."""
    import pandas.api.types as kinds

    moments = [name for name in frame.columns if kinds.is_datetime64_any_dtype(frame[name].dtype)]
    frame = frame.assign(**{name: frame[name].dt.to_pydatetime() for name in moments}) if moments else frame
    lists = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _with_run(table: pd.DataFrame, run_id: str) -> pd.DataFrame:
    table = table.drop(columns=RUN_COLUMN, errors="ignore")
    table.insert(0, RUN_COLUMN, run_id)
    return table.astype({RUN_COLUMN: "str"})


def _begin_explicitly(engine: sa.Engine) -> None:
    """Make SQLite's transaction cover CREATE TABLE and DELETE too; Python's driver would commit in between."""
    import sqlalchemy as sa

    @sa.event.listens_for(engine, "connect")
    def _connect(connection, record) -> None:  # type: ignore[no-untyped-def]
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection) -> None:  # type: ignore[no-untyped-def]
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _make_folder(path: Path, shown: str) -> None:
    if str(path).startswith("file:"):  # an SQLite URI is its owner's business
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot make the folder of the database {shown}: {error.strerror}. "
            "Name another file in database_url, or make the folder writable."
        ) from error


def _shown(url: sa.URL) -> str:
    return url.render_as_string(hide_password=True)


def _hidden(text: object) -> str:
    """A text that could not be parsed as a URL, without what may be a password in it."""
    scheme, mark, rest = str(text).partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if mark and "@" in rest else str(text)


def _reason(error: Exception, url: sa.URL) -> str:
    """First line of the driver's own message, without the password should the driver repeat it."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text.replace(str(url.password), "***") if url.password else text
