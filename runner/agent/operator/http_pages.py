"""The pages of `[agent] listen`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runner import __version__
from runner.agent.operator.http_listener import Page, Pages
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from runner.agent.operator.health_watch import HealthWatch
    from runner.agent.operator.metrics.prometheus import Metrics


def pages_of(watch: HealthWatch) -> Pages:
    """/healthz for those who decide whether this host is well, /metrics for those who draw it."""
    metrics: Metrics | None = None

    async def healthz() -> Page:
        depths = await watch.depths.look() if watch.depths is not None else None
        return health_page(watch, depths)

    async def metrics_page() -> Page:
        nonlocal metrics
        if metrics is None:
            from runner.agent.operator.metrics.prometheus import Metrics  # noqa: PLC0415 - 1.4 MB, if scraped

            metrics = Metrics(watch)
        body, content_type = await metrics.page()
        return Page("200 OK", body, content_type)

    return {"/healthz": healthz, "/metrics": metrics_page}


def health_page(watch: HealthWatch, depths: dict[str, Any] | None = None) -> Page:
    """200 when all is well, else 503, with the reasons and the facts."""
    facts, health = watch.health()
    now = watch.services.now()
    page = {
        "ok": health.ok,
        "reasons": health.reasons,
        "problems": [
            {"kind": p.kind, "for_s": round(p.for_s, 1), "since": format_time(now - p.for_s), "text": p.text}
            for p in health.problems
        ],
        "notes": health.notes,
        "version": __version__,
        "group": watch.services.config.group,
        **{name: round(v, 1) if isinstance(v, float) else v for name, v in asdict(facts).items()},
        **({"queues": depths} if depths is not None else {}),
    }
    body = json.dumps(page, indent=1).encode() + b"\n"
    return Page("200 OK" if health.ok else "503 Service Unavailable", body)
