"""A small GraphQL client for Vendure's two APIs: one session, one channel, errors that stop the script."""

from __future__ import annotations

import re
from typing import Any, Self

import httpx


class GraphQLError(Exception):
    """The API refused a request; the message holds its reason and the document."""


def mutation(signature: str, on: str | None = None, fields: str = "id") -> str:
    """The document of a mutation, e.g. of `settlePayment(id: ID!)` with its result `on` the type Payment.

    Most of Vendure's mutations answer with a union of a type and the errors to be expected; those that do
    not need no `on`.
    """
    name, _, parameters = signature.partition("(")
    declared = re.findall(r"(\w+): ([\w\[\]!]+)", parameters)
    variables = ", ".join(f"${variable}: {kind}" for variable, kind in declared)
    arguments = ", ".join(f"{variable}: ${variable}" for variable, _ in declared)
    selection = f"... on {on} {{ {fields} }} ... on ErrorResult {{ errorCode message }}" if on else fields
    call = f"{name}({arguments})" if declared else name
    return f"mutation{f'({variables})' if declared else ''} {{ {call} {{ {selection} }} }}"


class Session:
    """One visitor's or admin's session with an API: it keeps the token that the API hands out.

    Use it as a context manager.
    """

    def __init__(self, url: str, *, channel: str | None = None, currency: str | None = None) -> None:
        headers = {"vendure-token": channel} if channel else {}
        parameters = {"currencyCode": currency} if currency else {}
        self._client = httpx.Client(base_url=url, headers=headers, params=parameters, timeout=60)

    def query(self, document: str, *, operation: str | None = None, **variables: Any) -> Any:
        """Send a document (or one of its operations); return the value of its only top-level field."""
        request = {"query": document, "variables": variables, "operationName": operation}
        response = self._client.post("", json=request)
        answer = response.json()
        if answer.get("errors"):
            messages = "; ".join(error["message"] for error in answer["errors"])
            raise GraphQLError(f"{messages}\nin {document}\nwith {variables}")
        if token := response.headers.get("vendure-auth-token"):
            self._client.headers["Authorization"] = f"Bearer {token}"
        (value,) = answer["data"].values()
        return value

    def do(self, signature: str, on: str | None = None, fields: str = "id", **variables: Any) -> Any:
        """Run a mutation (see `mutation`); an expected error, which Vendure answers as a value, raises."""
        document = mutation(signature, on, fields)
        value = self.query(document, **variables)
        if isinstance(value, dict) and value.get("errorCode"):
            raise GraphQLError(f"{value['errorCode']}: {value.get('message')}\nin {document}\nwith {variables}")
        return value

    def refused(self, signature: str, on: str, **variables: Any) -> str:
        """Run a mutation that the shop must refuse; return its error code."""
        value = self.query(mutation(signature, on), **variables)
        if "errorCode" not in value:
            raise GraphQLError(f"This should have been refused: {signature}\nwith {variables}")
        return str(value["errorCode"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
