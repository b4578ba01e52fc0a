"""The engines there are: the only list of them."""

from sync.engines.base import Engine
from sync.engines.vendure.engine import Vendure

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Vendure(),)}
