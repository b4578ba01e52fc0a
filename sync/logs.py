"""Logs: JSON lines on standard error, or readable ones at a terminal. Nothing personal goes in.

What libraries tell by Python's own logging (uvicorn, asyncio) goes the same way, from warnings on: below that they tell
addresses that they call.
"""

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor


def configure_logs() -> None:
    """Set up structlog, and logging, for a command. Call once, first."""
    # Tracebacks without local variables: those hold phone numbers and payloads.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    renderers: list[Processor] = [console] if sys.stderr.isatty() else [tracebacks, structlog.processors.JSONRenderer()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*common, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _take_in_others([*common, structlog.stdlib.add_logger_name], renderers)


def _take_in_others(common: list[Processor], renderers: list[Processor]) -> None:
    """Let what libraries log be lines like ours, each with its logger's name."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[lines], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
