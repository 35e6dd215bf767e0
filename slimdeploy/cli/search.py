"""`slimdeploy search`: find the best recipe for a board."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimdeploy.board.text import printable_lines
from slimdeploy.cli._shared import JsonOption, TrustOption, show, table

if TYPE_CHECKING:
    from slimdeploy.search.view import View

NAME = "search"
LIVE_ROWS = 12
StorageOption = Annotated[
    str,
    typer.Option(
        "--storage", envvar="SLIMDEPLOY_STORAGE",
        help="The study's URL, such as postgresql+psycopg://user@host/base; else SQLite in --out.",
    ),
]  # fmt: skip


class _Group(typer.core.TyperGroup):
    """`search SEARCH.toml` beside `search best DIR`: what names no subcommand is meant for the search itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["start", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, help="Find the best recipe for a board.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def start(
    search: Annotated[Path | None, typer.Argument(help="The SEARCH.toml; examples/ has one.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The search's folder.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="Where trials run: local or ray.")] = "local",
    address: Annotated[str, typer.Option("--address", help="A Ray cluster's address.")] = "",
    storage: StorageOption = "",
    cache: Annotated[
        str, typer.Option("--cache", help="A shared folder, or a URL that fsspec opens, for stages; else in --out.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how the search in --out stands, and stop.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="A data set's YAML in place of the recipe's.")] = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Search a space of recipes (`start` may be left out).

    Example: slimdeploy search examples/search.toml --out searches/aerial --engine local
    """
    from slimdeploy.search import run
    from slimdeploy.search.view import as_document

    folder = _given(out, "--out")
    options = run.Options(engine=engine, address=address, storage=storage, cache=cache, data=data, trust=trust)
    if status:
        view = run.status(folder, storage)
        show(as_document(view), text=as_text(view), as_json=json)
        return
    with _watching() as watch:
        view = (
            run.go_on(folder, options, watch, search=search)
            if resume
            else run.start(_given(search, "SEARCH.toml"), folder, options, watch)
        )
    show_end(view, json=json, complete=folder)


@app.command()
def best(
    search: Annotated[Path, typer.Argument(help="A search's folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="The folder to make; best in the search's folder.")] = None,
    min_map: Annotated[float | None, typer.Option("--min-map", help="Lowest mAP50-95, in 0..1.")] = None,
    max_p50_ms: Annotated[float | None, typer.Option("--max-p50-ms", help="Highest median latency, in ms.")] = None,
    max_size_mb: Annotated[float | None, typer.Option("--max-size-mb", help="Largest file, in MB.")] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="Take this trial.")] = None,
    storage: StorageOption = "",
    json: JsonOption = False,
) -> None:
    """Write the recipe of the most accurate trial within the bounds, and copy its bundle.

    Example: slimdeploy search best searches/aerial --max-p50-ms 10
    """
    from slimdeploy.search import best as choosing
    from slimdeploy.search.view import shown

    folder = out or search / "best"
    asked = {"min_map": min_map, "max_p50_ms": max_p50_ms, "max_size_mb": max_size_mb}
    bounds = {name: bound for name, bound in asked.items() if bound is not None}
    chosen = choosing.best(search, folder, bounds, number=trial, storage=storage)
    figures = ", ".join(f"{name} {shown(value)}" for name, value in chosen.figures.items())
    recipe, bundle = folder / choosing.RECIPE, folder / choosing.BUNDLE
    show(
        {"trial": chosen.number, "values": chosen.values, "figures": chosen.figures, "recipe": str(recipe),
         "bundle": str(bundle)},
        text=f"trial {chosen.number}: {figures}\n\nrecipe: {recipe}\nbundle: {bundle}\n"
        f"to make it again: slimdeploy run {recipe} --out again",
        as_json=json,
        complete=folder,
    )  # fmt: skip


def _given(path: Path | None, name: str) -> Path:
    from slimdeploy.errors import UsageError

    if path is None:
        raise UsageError(
            f"{name} is missing", wanted="a search and its folder",
            do="slimdeploy search SEARCH.toml --out DIR; or --resume or --status with --out DIR alone",
        )  # fmt: skip
    return path


def show_end(view: View, *, json: bool, complete: Path | str = "") -> None:
    """Print how a search ended, and raise where it found nothing; with --json stdout gets one object all the same."""
    from slimdeploy.errors import SlimdeployError
    from slimdeploy.search.run import require_found
    from slimdeploy.search.view import as_document

    failed: SlimdeployError | None = None
    try:
        require_found(view)
    except SlimdeployError as error:
        failed = error
    show(
        {**as_document(view), **(failed.as_json() if failed else {})},
        text=as_text(view),
        as_json=json,
        complete=complete,
    )
    if failed is None:
        return
    if not json:
        raise failed
    typer.echo(f"slimdeploy: {failed}", err=True)
    raise typer.Exit(failed.exit_code)


def as_text(view: View, *, most: int = 0) -> str:
    """Return a search as a headline, a table of its trials, and what failed and why."""
    from slimdeploy.search.view import failures, header, headline, rows

    parts = [headline(view), table(header(view.spec), rows(view, most=most)), "\n".join(failures(view))]
    return "\n\n".join(part for part in parts if part)


@contextlib.contextmanager
def _watching() -> Iterator[Callable[[View], None]]:
    """Show a table that follows the search, on a terminal; elsewhere a line for every change."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(stderr=True), refresh_per_second=2, transient=True) as live:
            yield lambda view: live.update(Text(printable_lines(as_text(view, most=LIVE_ROWS))))
        return
    said = [""]

    def say(view: View) -> None:
        from slimdeploy.search.view import headline

        line = headline(view)
        if line.partition(" left")[0] != said[0].partition(" left")[0]:
            logging.getLogger("slimdeploy.search").info("%s", line)
        said[0] = line

    yield say
