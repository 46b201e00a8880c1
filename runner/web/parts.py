"""Small pieces of the pages, made once here for every template: times, states, links."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from runner import __version__
from runner.visible import visible
from runner.web import pictures, words

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).parent


def shown(value: Any) -> Any:
    """Text of others, in one line that shows what it has; what is markup was made here."""
    if isinstance(value, Markup):
        return value
    return visible(value) if isinstance(value, str) else "–" if value is None else value


def when(moment: str | float | None, *, since: bool = False) -> Markup:
    """A time, relative, with the exact one as its title. `since`: how long it has been going on."""
    at = words.unix(moment) if isinstance(moment, str) else moment
    if at is None:
        return Markup("–")
    now = time.time()
    said = words.span(max(0.0, now - at)) if since else words.relative(at, now)
    title = ("since " if since else "") + words.exact(at)
    kind = ' data-since=""' if since else ""
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(words.iso(at), title, Markup(kind), said)  # noqa: S704


def clock(moment: str | float | None) -> Markup:
    """The time of day, with the exact one as its title."""
    at = words.unix(moment) if isinstance(moment, str) else moment
    if at is None:
        return Markup("–")
    said = words.iso(at)[11:19]
    return Markup('<time datetime="{}" title="{}" data-clock="">{}</time>').format(words.iso(at), words.exact(at), said)


def icon(name: str) -> Markup:
    return Markup('<svg class="ic" aria-hidden="true"><use href="#i-{}"/></svg>').format(words.glyph(name))


def state(name: str | None, said: str = "") -> Markup:
    """Its glyph and its word, in its tone."""
    inner = icon(name or "due") + escape(shown(said or words.label(name)))
    return Markup('<span class="st {}">{}</span>').format(words.tone(name), inner)


def run_url(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"


def job_url(group: str | None, job: str | None) -> str:
    return f"/jobs/{quote(group or '-', safe='')}/{quote(job or '-', safe='')}"


def job(group: str | None, name: str | None) -> Markup:
    """GROUP/JOB as a link; a message that named no job has none."""
    if not name:
        return Markup('<span class="dim">no job</span>')
    before = Markup('<span class="g">{}/</span>').format(shown(group)) if group else Markup("")
    return Markup('<a class="job" href="{}">{}{}</a>').format(job_url(group, name), before, shown(name))


def run(run_id: str) -> Markup:
    return Markup('<a class="id" href="{}">{}</a>').format(run_url(run_id), shown(run_id))


def host(name: str | None) -> Markup:
    if not name:
        return Markup("–")
    return Markup('<a href="/hosts#{}">{}</a>').format(quote(name, safe=""), shown(name))


def query(**fields: Any) -> str:
    """The query of a link, without what is empty."""
    given = [(name.rstrip("_"), value) for name, value in fields.items() if value not in ("", None, [], ())]
    return urlencode(given, doseq=True)


def document(value: Any) -> Markup:
    """JSON over several lines, as text."""
    lines = json.dumps(value, indent=2, ensure_ascii=False, default=str).splitlines()
    return Markup("\n").join(escape(visible(line)) for line in lines)


def new_key() -> str:
    return str(uuid.uuid4())


def environment() -> Environment:
    """The templates, with all of this as their words."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    own: Mapping[str, Any] = {
        "version": __version__,
        "when": when,
        "clock": clock,
        "icon": icon,
        "st": state,
        "job_link": job,
        "job_url": job_url,
        "run_link": run,
        "run_url": run_url,
        "host_link": host,
        "query": query,
        "document": document,
        "new_key": new_key,
        "span": words.span,
        "amount": words.amount,
        "plural": words.plural,
        "label": words.label,
        "tone": words.tone,
        "outcomes": words.OUTCOMES,
        "strip": pictures.strip,
        "strip_words": pictures.strip_words,
        "usual": pictures.usual,
        "share": pictures.share,
    }
    made.globals.update(own)
    return made
