"""How much a model is to think, in the words of each server, and what a refusal of it teaches. Knows no request.

https://platform.openai.com/docs/guides/reasoning, https://openrouter.ai/docs/use-cases/reasoning-tokens,
https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking, https://docs.vllm.ai/en/latest/features/reasoning_outputs.html,
https://docs.ollama.com/api/openai-compatibility.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from ml_intern.record.events import Effort

EFFORTS: tuple[Effort, ...] = get_args(Effort)
Fields = dict[str, Any]

_OPENAI: tuple[Effort, ...] = ("off", "minimal", "low", "medium", "high", "xhigh")
_PLAIN: tuple[Effort, ...] = ("off", "low", "medium", "high")
_TAKES: Mapping[str, tuple[Effort, ...]] = {
    "ollama": _PLAIN,
    "vllm": _PLAIN,
    "llamacpp": _PLAIN,
    "groq": _PLAIN,
    "cerebras": _PLAIN,
    "xai": ("low", "medium", "high"),
    "deepseek": ("off", "high", "max"),
    "moonshot": ("off", "medium"),
    "anthropic": ("off", "low", "medium", "high", "xhigh", "max"),
}
"""What servers are known to take; of others it is tried, and learned."""

_BUDGETS: Mapping[Effort, int] = {
    "minimal": 1_024,
    "low": 4_096,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
"""Tokens of thinking, for models of Anthropic's that take no effort."""
_LEAST_BUDGET = 1_024
_OF_BUDGETS = r"claude-(?:3\b|3-|(?:opus|sonnet|haiku)-4(?:-[015])?(?:-\d{8})?$)"

_MIDDLE = frozenset[Effort](("low", "medium", "high"))
"""What every model takes that takes any."""

_NAMES_IT = r"effort|chat_template_kwargs|enable_thinking|budget_tokens|adaptive|thinking\.|\breasoning\b"
_NO_SUCH_FIELD = (
    r"(?:unrecogni[sz]ed|unknown|unexpected|extra|unsupported)\W+(?:\w+\W+){0,2}(?:parameter|argument|input|field|key)"
)
_LISTED = r"(?:supported values|supported|allowed|one of|must be|should be|expected|input should be)\b(.*)"


def nearest(wanted: Effort, takes: Sequence[Effort]) -> Effort | None:
    """The value that is taken and nearest to `wanted`, the lesser of two; None: none is. No thinking is given only to
    who wants none.
    """
    some: list[Effort] = [each for each in takes if each != "off" or wanted == "off"]
    at = EFFORTS.index(wanted)
    # The first of two that are equally near is the lesser one.
    return min(sorted(some, key=EFFORTS.index), key=lambda each: abs(EFFORTS.index(each) - at)) if some else None


def taken(provider: str, learned: Sequence[str] | None) -> tuple[Effort, ...]:
    """What a model of this provider takes, as far as is known."""
    if learned is None:
        return _TAKES.get(provider, _OPENAI)
    return tuple(each for each in EFFORTS if each in learned)


def chat_fields(provider: str, effort: Effort | None) -> Fields:
    """The fields of a chat completion that ask for `effort`; none where it is None."""
    if effort is None:
        return {}
    form = _FORMS.get(provider)
    return form(effort) if form else {"reasoning_effort": _word(effort)}


def message_fields(effort: Effort | None, max_tokens: int, *, adaptive: bool) -> Fields:
    """The fields of an Anthropic message that ask for `effort`. A budget leaves a quarter of the reply for its text."""
    if effort is None:
        return {}
    if effort == "off":
        return {"thinking": {"type": "disabled"}}
    if adaptive:
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
    budget = min(_BUDGETS[effort], max_tokens * 3 // 4)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= _LEAST_BUDGET else {}


def is_adaptive(model: str) -> bool:
    """Whether a model of Anthropic's thinks by effort, going by its name; older ones have a budget."""
    return re.search(_OF_BUDGETS, model) is None


def names_it(what: str, sent: Effort) -> bool:
    """Whether a refusal is about how much is to be thought. OpenAI's names the value that was `sent` and no field."""
    said = what.lower()
    return re.search(_NAMES_IT, said) is not None or f"'{_word(sent)}' is not supported" in said


def left_after(what: str, sent: Effort, provider: str, learned: Sequence[str] | None) -> tuple[Effort, ...]:
    """What the model may still take after it refused `sent` with these words: what they list, else what `sent` leaves.

    Always fewer than were learned before, so that asking again comes to an end.
    """
    said = what.lower()
    if re.search(_NO_SUCH_FIELD, said):
        return ()
    if listed := re.search(_LISTED, said):
        words = {{"none": "off", "disabled": "off"}.get(word, word) for word in re.findall(r"[a-z]+", listed[1])}
        may = EFFORTS if learned is None else taken(provider, learned)
        found: list[Effort] = [each for each in may if each in words and each != sent]
        if found:
            return tuple(found)
    if sent in _MIDDLE:
        return ()
    left: list[Effort] = [each for each in taken(provider, learned) if each != sent]
    return tuple(left)


def _word(effort: Effort) -> str:
    return "none" if effort == "off" else effort


def _template(effort: Effort) -> Fields:
    thinks = effort != "off"
    # Qwen and GLM call it enable_thinking, DeepSeek and Granite thinking; a template passes over what it does not know.
    return {"chat_template_kwargs": {"enable_thinking": thinks, "thinking": thinks}}


def _of_vllm(effort: Effort) -> Fields:
    return _template(effort) | ({} if effort == "off" else {"reasoning_effort": effort})


def _of_llamacpp(effort: Effort) -> Fields:
    fields = _template(effort)
    fields["chat_template_kwargs"] |= {} if effort == "off" else {"reasoning_effort": effort}
    return fields


def _of_switch(effort: Effort) -> Fields:
    return {"thinking": {"type": "disabled" if effort == "off" else "enabled"}}


def _of_deepseek(effort: Effort) -> Fields:
    return _of_switch(effort) | ({} if effort == "off" else {"reasoning_effort": effort})


_FORMS: Mapping[str, Callable[[Effort], Fields]] = {
    "openrouter": lambda effort: {"reasoning": {"effort": _word(effort)}},
    "vllm": _of_vllm,
    "llamacpp": _of_llamacpp,
    "moonshot": _of_switch,
    "deepseek": _of_deepseek,
}
