"""The engines there are: the only list of them."""

from sync.engines.base import Engine
from sync.engines.stripe.engine import Stripe
from sync.engines.vendure.engine import Vendure

_ALL: tuple[Engine, ...] = (Vendure(), Stripe())

ENGINES = {engine.name: engine for engine in _ALL}
