"""Logs: what an unexpected error leaves in them."""

from __future__ import annotations

import json
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


OTHERS = """
import asyncio, json, logging, warnings
from structlog.contextvars import bind_contextvars
from sync.logs import configure_logs

configure_logs()
bind_contextvars(request_id="r1")
logging.getLogger("httpx").info("HTTP Request: GET https://shop.example/?phone=94771234567")
try:
    raise RuntimeError("it went wrong")
except RuntimeError:
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
warnings.warn("this goes away")

async def forget():
    asyncio.get_running_loop().create_future().set_exception(ValueError("nobody looked"))

asyncio.run(forget())
"""


def test_the_lines_of_libraries_are_like_ours() -> None:
    done = subprocess.run([sys.executable, "-c", OTHERS], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["uvicorn.error", "py.warnings", "asyncio"]
    assert [line["level"] for line in lines] == ["error", "warning", "error"]
    assert lines[0]["event"] == "Exception in ASGI application"
    assert lines[0]["exception"][0]["exc_value"] == "it went wrong"
    assert all(line["timestamp"] and line["request_id"] == "r1" for line in lines[:2])
