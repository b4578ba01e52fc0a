"""What this server counts of itself, for Prometheus: requests, problems, hooks, codes, texts.

What the database knows (lag, outcomes, drift) is read from there when asked for: `api/watch.py`. These counters are
each process's own; where several serve one port, they share a folder (`PROMETHEUS_MULTIPROC_DIR`, which `mirror serve
--workers` sets), and whoever is asked answers for all. No label holds anything of a customer's, or a path as it came.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable; it must be set before this module is loaded."""

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST"})
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_own = CollectorRegistry()
REQUESTS = Histogram(
    "mirror_request_seconds",
    "Requests, and how long their answers took; by route (empty: there is none), status 0: cut off unanswered.",
    ("method", "route", "status"),
    buckets=SECONDS,
    registry=_own,
)
PROBLEMS = Counter("mirror_problems", "Answers that told of a problem, by its code.", ("code",), registry=_own)
EVENTS = Counter(
    "mirror_hook_events", "Events of hooks: accepted or duplicate.", ("integration", "outcome"), registry=_own
)
CODES = Counter(
    "mirror_otp",
    "The way of SMS codes: asked, joined (a code under way), wrong, proved, and refused by which limit.",
    ("step", "limit"),
    registry=_own,
)
TEXTS = Counter("mirror_sms", "Texts by what became of them.", ("driver", "outcome"), registry=_own)
TEXTS_COST = Counter("mirror_sms_cost", "What texts cost, by the prices set here.", ("driver",), registry=_own)
LIMITED = Counter(
    "mirror_rate_limited", "Requests turned away by a rate limit, by its name.", ("limit",), registry=_own
)
ProcessCollector(registry=_own)

_of_answer: dict[tuple[str, str, int], Histogram] = {}


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request. Called for each one: it must cost next to nothing."""
    key = (method, route, status)
    histogram = _of_answer.get(key)
    if histogram is None:
        labels = (method if method in METHODS else "other", route, str(status))
        histogram = _of_answer[key] = REQUESTS.labels(*labels)
    histogram.observe(seconds)


def registry() -> CollectorRegistry:
    """Return what is counted, by all processes that share the folder."""
    if SHARED not in os.environ:
        return _own
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared
