"""Logs: what an unexpected error leaves in them."""

from __future__ import annotations

import subprocess
import sys

FAILS = """
import structlog
from sync.logs import configure_logs

def fail(phone):
    raise RuntimeError("it went wrong")

configure_logs()
try:
    fail("947" + "71234567")
except RuntimeError as error:
    structlog.get_logger().error("failed", exc_info=error)
"""


def test_a_traceback_shows_where_and_no_local_variables() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=True)
    assert "it went wrong" in done.stderr
    assert "fail" in done.stderr
    assert "94771234567" not in done.stderr
