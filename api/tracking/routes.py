"""`GET /orders/{code}`: where is my order? And `GET /orders/{code}/events`: tell me when that changes.

Both take one of three proofs: a phone number of the order (`phone`), the token that `/otp/verify` gave (in the header
Authorization), or what a link was signed with (`t`).
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from litestar.types import ASGIApp

from api import examples
from api.documented import TOKEN, answers, example, header, problems, takes
from api.edge.slashes import with_slashes
from api.errors import BadTokenError, ExpiredLinkError, TooManyStreamsError, UnknownOrderError
from api.peers import requester
from api.settings import Network
from api.tracking.orders import Asked, Orders
from api.tracking.streams import MEDIA_TYPE, Client, Streams
from api.tracking.told import TrackedOrder

Code = Annotated[
    str, PathParameter(description="The order's code, as in its confirmation.", examples=example(examples.CODE))
]
Phone = Annotated[
    str | None,
    QueryParameter(description="A phone number of the order, as one dials it.", examples=example(examples.PHONE)),
]
Link = Annotated[
    str | None,
    QueryParameter(name="t", description="From a link that the shop signed.", examples=example(examples.LINK)),
]
Store = Annotated[
    str | None,
    QueryParameter(description="The store's slug; the first store without it.", examples=example("default")),
]
Version = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="The version that you have; browsers send it.",
        examples=example(examples.VERSION),
    ),
]

BEARER = b"bearer "
NO_PROOF = "Prove that it is yours by 'phone', by 't', or by a token in the header Authorization"


def tracking_routes(orders: Orders, streams: Streams, proxies: Sequence[Network]) -> list[HTTPRouteHandler]:
    """Return the routes that tell where an order is, and when that changes."""

    async def ask(
        request: Request[Any, Any, Any], code: Code, phone: Phone = None, link: Link = None, store: Store = None
    ) -> Asked:
        """Return the question by the strongest proof that is given; raise ClientException if there is none."""
        code, token = with_slashes(code), _bearer(request)
        if token is not None:
            return await orders.by_token(code, token, store)
        if link is not None:
            return await orders.by_link(code, link, store)
        if phone is not None:
            return await orders.by_phone(code, phone, store)
        raise ClientException(NO_PROOF)

    @get(
        "/orders/{code:str}",
        tags=["tracking"],
        security=[{TOKEN: []}, {}],
        operation_class=takes(headers=[header("If-None-Match", "The version that you have.", f'"{examples.VERSION}"')]),
        responses={
            **answers(TrackedOrder, "Where the order is.", examples.ORDER),
            **answers(None, "The order is as you have it.", status=HTTPStatus.NOT_MODIFIED),
            **problems(UnknownOrderError, BadTokenError, ExpiredLinkError),
        },
    )
    async def track_order(
        request: Request[Any, Any, Any], code: Code, phone: Phone = None, link: Link = None, store: Store = None
    ) -> Response[TrackedOrder | None]:
        """Tell where an order is to whoever proves that it is theirs; 304 to who has the present version."""
        order = (await orders.found(await ask(request, code, phone, link, store))).order
        etag = f'"{order.version}"'
        headers = {"Cache-Control": "no-store", "ETag": etag}
        if _has(request, etag):
            return Response(None, status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(order, headers=headers)

    @get(
        "/orders/{code:str}/events",
        tags=["tracking"],
        security=[{TOKEN: []}, {}],
        dependencies={"asked": Provide(ask)},
        responses={
            **answers(str, "Events, each a TrackedOrder.", examples.EVENTS, media_type=MEDIA_TYPE),
            **problems(UnknownOrderError, BadTokenError, ExpiredLinkError, TooManyStreamsError),
        },
    )
    async def watch_order(
        request: Request[Any, Any, Any], asked: NamedDependency[Asked], version: Version = None
    ) -> ASGIApp:
        """Tell where an order is, and again whenever it changes, as server-sent events."""
        client = Client(requester(request, proxies), version)
        return streams.stream(asked, await orders.found(asked), client, request.app.state["stopping"])

    return [track_order, watch_order]


def _has(request: Request[Any, Any, Any], etag: str) -> bool:
    """Tell whether whoever asks has this version, strong or weak (a proxy that compresses makes it weak)."""
    known = b",".join(value for name, value in request.scope["headers"] if name == b"if-none-match")
    return bool(known) and (known.strip() == b"*" or etag.encode() in known)


def _bearer(request: Request[Any, Any, Any]) -> str | None:
    """Return the token of a request, read from the headers as they came: Litestar's are made for more than that."""
    for name, value in request.scope["headers"]:
        if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
            token: str = value[len(BEARER) :].strip().decode("latin-1")
            return token
    return None
