"""The errors, drawn. Each carries one sentence and a remedy; doors print both and never a traceback.

MlInternError
├── BadSettings          a flag, file or variable is wrong              (exit 2)
├── SessionError
│   ├── SessionNotFound  no such session
│   ├── SessionBusy      another process owns it
│   ├── StaleOwner       we lost the session to another owner
│   └── StoreFailed      the record cannot be written or read
├── ModelError           one attempt failed; `kind` says how
│   ├── Overflow  RateLimited  Unauthorised  OutOfCredit
│   ├── Refused   NotFound     BadRequest    Unreachable
│   └── NoServer         (an Unreachable) nothing listens at the address
├── SandboxError
│   ├── LevelTooLow      the machine cannot give the walls that were asked for
│   ├── PathRefused      a path outside the roots, or a protected one
│   ├── SupervisorLost   the process that owned the commands is gone
│   └── EnvironmentFailed  a script's packages cannot be installed
└── ToolFailed           a tool's own answer to the model: what happened, what to do
"""

from typing import ClassVar


class MlInternError(Exception):
    """Root of what we raise on purpose: what happened, and what to do about it. `quoted` is what somebody else wrote of
    it (a program, a file): a model reads it as data.
    """

    def __init__(self, what: str, remedy: str = "", *, quoted: str = "") -> None:
        super().__init__(f"{what} {remedy}\n{quoted}".strip())
        self.what = what
        self.remedy = remedy
        self.quoted = quoted


class BadSettings(MlInternError):
    """A flag, a settings file or an environment variable is wrong."""


class SessionError(MlInternError):
    """A session cannot be opened, kept or found."""


class SessionNotFound(SessionError):
    """No session has this id."""


class SessionBusy(SessionError):
    """Another process owns the session; the message names it."""


class StaleOwner(SessionError):
    """The session was taken over by another process: nothing more may be written."""


class StoreFailed(SessionError):
    """The store refused: disk full, file damaged, network file system."""


class ModelError(MlInternError):
    """One attempt at a model failed. `kind` is what the record keeps.

    `may_be_billed`: the request was sent and got no complete answer, so the provider may have generated something. An
    HTTP error answer or a connection that never stood leaves it False.
    """

    kind: ClassVar[str] = "error"
    transient: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        remedy: str = "",
        *,
        retry_after_s: float | None = None,
        status: int = 0,
        may_be_billed: bool = False,
    ) -> None:
        super().__init__(what, remedy)
        self.retry_after_s = retry_after_s
        self.status = status
        self.may_be_billed = may_be_billed


class Overflow(ModelError):
    """The request does not fit the model's context window."""

    kind = "overflow"


class RateLimited(ModelError):
    """Too many requests or tokens; `retry_after_s` when the provider said."""

    kind = "rate_limited"
    transient = True


class Unauthorised(ModelError):
    """The key is missing, wrong or not allowed this model."""

    kind = "unauthorised"


class OutOfCredit(ModelError):
    """The provider wants money."""

    kind = "out_of_credit"


class Refused(ModelError):
    """The provider's own policy refused the request or the reply."""

    kind = "refused"


class NotFound(ModelError):
    """No such model or route."""

    kind = "not_found"


class BadRequest(ModelError):
    """The provider rejects the form of the request."""

    kind = "bad_request"


class Unreachable(ModelError):
    """No connection, a 5xx, a cut stream, nonsense on the wire."""

    kind = "unreachable"
    transient = True


class NoServer(Unreachable):
    """Nothing listens at the address, or its name is unknown: a slip where it never answered, else it may come back."""

    kind = "no_server"


class SandboxError(MlInternError):
    """The sandbox cannot do what was asked."""


class LevelTooLow(SandboxError):
    """This machine cannot give the walls that the mode demands."""


class PathRefused(SandboxError):
    """A path lies outside the roots, is protected, or crosses a link."""


class SupervisorLost(SandboxError):
    """The process that owned the session's commands is gone, and with it their outcome."""


class EnvironmentFailed(SandboxError):
    """The packages a script asks for cannot be installed."""


class ToolFailed(MlInternError):
    """A tool's own failure, worded for the model so that it can act."""
