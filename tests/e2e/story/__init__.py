"""The script of actions: a few weeks of a shop's life, in order.

Each action is a function that takes the `World`, does one thing as a shopper or an admin would, and
says in its name what it was. Between them every row of Vendure's event table occurs.
"""

from functools import partial

from tests.e2e.story import aftercare, checkout, customers, delivery, drafts, regulars
from tests.e2e.world import Action

STORY: tuple[Action, ...] = (
    *customers.BEFORE_THE_FIRST_ORDER,
    *checkout.ACTIONS,
    *drafts.ACTIONS,
    *regulars.ACTIONS,
    *aftercare.ACTIONS,
    *delivery.ACTIONS,
    *customers.AFTER_THE_ORDERS,
)


def title(action: Action) -> str:
    """An action in words: `partial(_reaches, "kumari's", "ARRIVED")` is "kumari's reaches ARRIVED"."""
    if not isinstance(action, partial):
        return action.__name__.replace("_", " ")
    subject, *rest = (getattr(value, "full_name", value) for value in action.args)
    details = (value for value in rest if isinstance(value, str))
    return " ".join([subject, action.func.__name__.strip("_"), *details])


__all__ = ["STORY", "title"]
