"""What pydantic-ai raises, as the error that it means. Knows no retry."""

from socket import gaierror

from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    UserError,
)

from ml_intern.base.errors import (
    BadRequest,
    ModelError,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Refused,
    Unauthorised,
    Unreachable,
)
from ml_intern.model.catalog import Endpoint
from ml_intern.model.wire import errors

_KINDS: tuple[tuple[type[ModelAPIError], type[ModelError]], ...] = (
    (ModelContextWindowExceededError, Overflow),
    (ModelRateLimitError, RateLimited),
    (ModelQuotaExceededError, OutOfCredit),
    (ModelAuthenticationError, Unauthorised),
    (ModelNotFoundError, NotFound),
)
_HEAD_CHARS = 64_000


def of_error(endpoint: Endpoint, error: AgentRunError | UserError, *, has_begun: bool) -> ModelError:
    """The error. `has_begun`: something of the reply has come, so that it may be billed."""
    match error:
        case ModelConnectionError():
            return _unreached(endpoint, error, has_begun=has_begun)
        case ModelRequestTimeout():
            return errors.unreached(endpoint, str(error), was_sent=True)
        case ModelAPIError():
            return _answered(endpoint, error, has_begun=has_begun)
        case ContentFilterError():
            return errors.of_kind(endpoint, Refused, errors.Fault(0, "", str(error)), may_be_billed=True)
        case UserError():
            # Refused before anything was sent.
            return errors.of_kind(endpoint, BadRequest, errors.Fault(0, "", str(error)))
        case _:
            return errors.cut(endpoint, str(error) or type(error).__name__)


def _unreached(endpoint: Endpoint, error: ModelConnectionError, *, has_begun: bool) -> ModelError:
    said = error.message or type(error).__name__
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 20:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if has_begun:
        return errors.cut(endpoint, said)
    if any(isinstance(each, gaierror) for each in causes):
        return errors.nobody(endpoint, "its name is unknown", "Check the address, and the network.")
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return errors.nobody(endpoint, said, errors.started(endpoint))
    return errors.unreached(endpoint, said, was_sent=error.phase not in {"connect", "pool"})


def _answered(endpoint: Endpoint, error: ModelAPIError, *, has_begun: bool) -> ModelError:
    status = error.status_code if isinstance(error, ModelHTTPError) else 0
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), None)
    fault = errors.fault_of(error.body if error.body is not None else error.message[:_HEAD_CHARS], status)
    if status == 0 and kind is None:
        kind = Unreachable
    # Words say more than a category of many: a policy's refusal comes as a bad request.
    return errors.of_kind(
        endpoint,
        kind or errors.kind_of(fault),
        fault,
        error.retry_after,
        may_be_billed=has_begun or error.in_stream or status == 0,
    )
