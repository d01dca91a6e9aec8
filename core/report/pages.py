"""What all pages share: templates, one style, one script, and pictures inside the file."""

from __future__ import annotations

import base64
import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(template: str, **content: Any) -> str:
    """Fills a template; text is escaped, and the page may load nothing and run no script but its own.

    Args:
        template: File of this folder that extends ``base.html``.
        content: Its variables.
    """
    environment = Environment(
        loader=PackageLoader("core.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"words": words, "date": date}
    style, script = (Path(__file__).with_name(name).read_text("utf-8") for name in ("style.css", "page.js"))
    # The browser refuses everything that is not named here, so that a name with HTML in it could do no harm even if a
    # template forgot to escape it.
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=policy, **content
    )


_CAPITALS = {name: name.upper() for name in ("csi", "det", "ecg", "psnr", "roc", "snr")}


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def words(name: str) -> str:
    """Returns the name of a figure as a caption: ``error_by_horizon`` becomes ``Error by horizon``."""
    text = " ".join(_CAPITALS.get(word, word) for word in name.replace("_", " ").split())
    return text[:1].upper() + text[1:]


def date(seconds: float) -> str:
    """Returns Unix time as a date and a time of day, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def figure_files(folder: Path) -> list[Path]:
    """Returns the figures of a run in the order in which the task drew them."""
    return sorted((folder / "figures").rglob("*.png"), key=_written)


def _written(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def embed_figure(figure: Figure) -> str:
    """Returns a figure as a ``data:`` address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return embed(buffer.getvalue())


def embed(content: bytes, kind: str = "png") -> str:
    """Returns an image file as a ``data:`` address."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
