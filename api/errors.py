"""Why the API refuses a request, as its code says it; `api/problems.py` has what is told of each."""


class UnknownIntegrationError(Exception):
    """No active integration has this name."""


class UnpreparedIntegrationError(Exception):
    """The integration exists, but not all that it needs is set up here."""


class MalformedHookError(Exception):
    """A hook is ours, but cannot be read; the reason says what is wrong and where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownOrderError(Exception):
    """No order has this code and this phone number."""


class ExpiredLinkError(Exception):
    """A link to an order was right until it expired."""


class BadTokenError(Exception):
    """A token is not ours, or it has expired."""


class TooManyStreamsError(Exception):
    """Somebody watches as much as anybody may, or all together do."""


class UnknownStoreError(Exception):
    """No active store has this slug."""


class InvalidPhoneError(Exception):
    """What was entered is no number that can get an SMS."""


class UnservedCountryError(Exception):
    """The store sends no SMS to numbers of this country."""


class UnknownPurposeError(Exception):
    """The store sends no codes for this purpose."""


class TooManyCodesError(Exception):
    """A limit of one number or one requester is reached; the first argument names it."""

    def __init__(self, limit: str, wait: int) -> None:
        super().__init__(limit)
        self.wait = wait


class CodesUnavailableError(Exception):
    """A limit of many numbers is reached; the first argument names it."""

    def __init__(self, limit: str, wait: int) -> None:
        super().__init__(limit)
        self.wait = wait


class CodeExpiredError(Exception):
    """A session has ended, its code is used, or there is no such session."""


class AttemptsUsedError(Exception):
    """A session has no attempts left."""


class WrongCodeError(Exception):
    """A code is not the one that was sent."""

    def __init__(self, attempts_left: int) -> None:
        super().__init__("wrong code")
        self.attempts_left = attempts_left


class TooManyRequestsError(Exception):
    """A rate limit is reached."""

    def __init__(self, limit: str, wait: int) -> None:
        super().__init__(limit)
        self.limit = limit
        self.wait = wait


class UnpreparedSendSmsError(Exception):
    """The Send-SMS hook's secret is not set."""


class MissingSchemaError(Exception):
    """The database answers, but it is not (or not fully) migrated."""


class PendingMigrationsError(Exception):
    """The database lacks migrations that this version has."""

    def __init__(self, versions: list[str]) -> None:
        super().__init__(", ".join(versions))
        self.pending = versions


class LaggingError(Exception):
    """Events have waited longer than MIRROR_READY_LAG_SECONDS to be applied."""

    def __init__(self, lag_seconds: float, allowed: int) -> None:
        super().__init__(f"{lag_seconds:.0f} s, of {allowed} s")
        self.lag_seconds = round(lag_seconds)
