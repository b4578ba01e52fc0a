"""`GET /orders/{code}?phone=…`: where is my order?"""

from typing import Annotated

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from api.tracking.orders import Orders
from api.tracking.told import TrackedOrder

Code = Annotated[str, PathParameter(description="The order's code, as in its confirmation.")]
Phone = Annotated[str, QueryParameter(description="A phone number of the order, as one dials it.")]
Store = Annotated[str | None, QueryParameter(description="The store's slug; the first store without it.")]


def tracking_route(orders: Orders) -> HTTPRouteHandler:
    """Return the route that tells where an order is."""

    @get("/orders/{code:str}", tags=["tracking"])
    async def track_order(code: Code, phone: Phone, store: Store = None) -> Response[TrackedOrder]:
        """Tell where an order is to whoever knows its code and a phone number of it."""
        return Response(await orders.find(code, phone=phone, store=store), headers={"Cache-Control": "no-store"})

    return track_order
