"""How pages are rendered: every text escaped for HTML, and no control character in any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimdeploy._needs import needs
from slimdeploy.board.text import printable

if TYPE_CHECKING:
    import jinja2


def page_environment() -> jinja2.Environment:
    """Return what renders a page's template.

    Raises:
        MissingDependency: the extra `report` is not installed.
    """
    with needs("report"):
        import jinja2
    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )


def _shown(value: Any) -> Any:
    """Return a text as it can be shown; what a template marked as HTML has its own line ends."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
