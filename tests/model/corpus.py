"""Odd streams by name, each with what it means."""

import json
from dataclasses import dataclass
from typing import Any

from ml_intern.record.messages import Usage
from tests.model.raw import call, chunk, sse, usage


@dataclass(frozen=True)
class Told:
    text: str = ""
    thinking: tuple[str, str] | None = None
    calls: tuple[tuple[str, str], ...] = ()
    finish: str = "stop"
    usage: Usage | None = None


LS = '{"command": "ls"}'
PWD = '{"command": "pwd"}'
HELLO = Told("Hello you", usage=Usage(12, 5))
ONE = Told(calls=(("bash", LS),), finish="calls", usage=Usage(12, 5))
TWO = Told(calls=(("bash", LS), ("bash", PWD)), finish="calls", usage=Usage(12, 5))
HEL, LO = chunk({"content": "Hello"}), chunk({"content": " you"})
STOP, CALLS = chunk({}, "stop"), chunk({}, "tool_calls")


def calling(*entries: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(entries)})


def thinking(name: str, *, details: Any = None) -> list[Any]:
    more = {"reasoning_details": details} if details else {}
    return [chunk({name: "Hm"}), chunk({name: "m.", **more}), HEL, LO, STOP, usage()]


CORPUS: dict[str, tuple[bytes, Told]] = {
    # ------------------------------------------------------------------------------------------- the form of the stream
    "as documented": (sse(chunk({"role": "assistant", "content": ""}), HEL, LO, STOP, usage()), HELLO),
    "first chunk has a role only": (sse(chunk({"role": "assistant"}), HEL, LO, STOP, usage()), HELLO),
    "role and null content": (sse(chunk({"role": "assistant", "content": None}), HEL, LO, STOP, usage()), HELLO),
    "role in every chunk": (
        sse(*(chunk({"role": "assistant", "content": part}) for part in ("Hello", " you")), STOP, usage()),
        HELLO,
    ),
    "carriage returns": (sse(HEL, LO, STOP, usage()).replace(b"\n", b"\r\n"), HELLO),
    "bare carriage returns": (sse(HEL, LO, STOP, usage()).replace(b"\n", b"\r"), HELLO),
    "no blank lines": (sse(HEL, LO, STOP, usage()).replace(b"\n\n", b"\n"), HELLO),
    "no space after the colon": (sse(HEL, LO, STOP, usage()).replace(b"data: ", b"data:"), HELLO),
    "byte order mark": (b"\xef\xbb\xbf" + sse(HEL, LO, STOP, usage()), HELLO),
    "comments keep it alive": (sse(": OPENROUTER PROCESSING\n\n", ":\n\n", HEL, ": x\n", LO, STOP, usage()), HELLO),
    "named events, ids and retries": (
        sse("retry: 10\n\n", "event: message\nid: 1\n", HEL, "event: message\nid: 2\n", LO, STOP, usage()),
        HELLO,
    ),
    "an event over several data lines": (
        sse(
            f"data: {json.dumps(HEL, indent=1)}\n\n".replace("\n ", "\ndata:  ").replace("\n}", "\ndata: }"),
            LO,
            STOP,
            usage(),
        ),
        HELLO,
    ),
    "an event over several data lines with carriage returns": (
        sse(
            f"data: {json.dumps(HEL, indent=1)}\n\n".replace("\n ", "\ndata:  ").replace("\n}", "\ndata: }"), LO, STOP
        ).replace(b"\n", b"\r\n"),
        Told("Hello you"),
    ),
    "JSON without a field name": (sse(f"{json.dumps(HEL)}\n", f"{json.dumps(LO)}\n", STOP, usage()), HELLO),
    "empty data lines": (sse("data:\n\n", "data: \n\n", HEL, LO, STOP, usage()), HELLO),
    "no [DONE]": (sse(HEL, LO, STOP, usage(), end=""), HELLO),
    "no [DONE], last line unended": (sse(HEL, LO, STOP, usage(), end="").rstrip(b"\n"), HELLO),
    "[DONE] without a finish reason": (sse(HEL, LO, usage()), HELLO),
    "[DONE] unended": (sse(HEL, LO, STOP, usage(), end="data: [DONE]"), HELLO),
    "nonsense after the end": (sse(HEL, LO, STOP, usage(), end="data: [DONE]\n\ndata: {oops\n\n"), HELLO),
    "a null event": (sse("data: null\n\n", HEL, "data: 7\n\n", LO, STOP, usage()), HELLO),
    "no choices, null choices": (sse({"choices": []}, {"choices": None}, {}, HEL, LO, STOP, usage()), HELLO),
    "events in an array": (sse(f"data: {json.dumps([HEL, LO])}\n\n", STOP, usage()), HELLO),
    "a whole message, not a delta": (
        sse({"choices": [{"message": {"content": "Hello you"}, "finish_reason": "stop"}], "usage": usage()["usage"]}),
        HELLO,
    ),
    "the whole message again at the end": (
        sse(HEL, LO, {"choices": [{"message": {"content": "Hello you"}, "finish_reason": "stop"}]}, usage()),
        HELLO,
    ),
    "content as a list of parts": (
        sse(chunk({"content": [{"type": "text", "text": "Hello"}]}), LO, STOP, usage()),
        HELLO,
    ),
    "a refusal is text": (sse(chunk({"refusal": "Hello you", "content": None}), STOP, usage()), HELLO),
    "bad UTF-8 spoils one character": (
        sse(chunk({"content": "a"}), STOP, usage()).replace(b'"a"', b'"a\xff"'),
        Told("a\ufffd", usage=Usage(12, 5)),
    ),
    "half a character": (sse(chunk({"content": "\ud83d"}), STOP, usage()), Told("\ufffd", usage=Usage(12, 5))),
    "a character in two halves": (
        sse(chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}), STOP, usage()),
        Told("a\U0001f600b", usage=Usage(12, 5)),
    ),
    "line separators are no line ends": (
        sse(chunk({"content": "a\u2028b\x85c"}), STOP, usage()).replace(b"\\u2028", "\u2028".encode()),
        Told("a\u2028b\x85c", usage=Usage(12, 5)),
    ),
    # -------------------------------------------------------------------------------------------------------- thinking
    "reasoning_content": (
        sse(*thinking("reasoning_content")),
        Told("Hello you", ("Hmm.", "reasoning_content"), usage=Usage(12, 5)),
    ),
    "reasoning": (sse(*thinking("reasoning")), Told("Hello you", ("Hmm.", "reasoning"), usage=Usage(12, 5))),
    "thinking": (sse(*thinking("thinking")), Told("Hello you", ("Hmm.", "thinking"), usage=Usage(12, 5))),
    "two names for the same thinking": (
        sse(chunk({"reasoning": "Hmm.", "reasoning_content": "Hmm."}), HEL, LO, STOP, usage()),
        Told("Hello you", ("Hmm.", "reasoning_content"), usage=Usage(12, 5)),
    ),
    "details beside the thinking": (
        sse(*thinking("reasoning", details=[{"type": "reasoning.encrypted", "data": "x", "index": 0}])),
        Told("Hello you", ("Hmm.", "reasoning_details"), usage=Usage(12, 5)),
    ),
    "thinking as a part of the content": (
        sse(
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]}]}),
            HEL,
            LO,
            STOP,
            usage(),
        ),
        Told("Hello you", ("Hmm.", ""), usage=Usage(12, 5)),
    ),
    # ----------------------------------------------------------------------------------------------------------- calls
    "a call in pieces": (
        sse(
            calling(call(0, "a", "bash", "")),
            calling(call(0, arguments=LS[:7])),
            calling(call(0, arguments=LS[7:])),
            CALLS,
            usage(),
        ),
        ONE,
    ),
    "two calls interleaved": (
        sse(
            calling(call(0, "a", "bash", ""), call(1, "b", "bash", "")),
            calling(call(1, arguments=PWD[:5]), call(0, arguments=LS[:9])),
            calling(call(0, arguments=LS[9:])),
            calling(call(1, arguments=PWD[5:])),
            CALLS,
            usage(),
        ),
        TWO,
    ),
    "whole calls at once": (sse(calling(call(0, "a", "bash", LS), call(1, "b", "bash", PWD)), CALLS, usage()), TWO),
    "whole calls without index": (
        sse(calling(call(None, "a", "bash", LS)), calling(call(None, "b", "bash", PWD)), CALLS, usage()),
        TWO,
    ),
    "whole calls with neither index nor id": (
        sse(calling(call(None, None, "bash", LS)), calling(call(None, None, "bash", PWD)), CALLS, usage()),
        TWO,
    ),
    "pieces without index": (
        sse(
            calling(call(None, "a", "bash", "")),
            calling(call(None, arguments=LS)),
            calling(call(None, "b", "bash", "")),
            calling(call(None, arguments=PWD)),
            CALLS,
            usage(),
        ),
        TWO,
    ),
    "every call says index 0": (
        sse(calling(call(0, "a", "bash", LS)), calling(call(0, "b", "bash", PWD)), CALLS, usage()),
        TWO,
    ),
    "indices begin at 1": (
        sse(calling(call(1, "a", "bash", LS)), calling(call(2, "b", "bash", PWD)), CALLS, usage()),
        TWO,
    ),
    "the name with every piece": (
        sse(
            calling(call(0, "a", "bash", "")),
            calling(call(0, "a", "bash", LS[:7])),
            calling(call(0, "a", "bash", LS[7:])),
            CALLS,
            usage(),
        ),
        ONE,
    ),
    "another id with every piece": (
        sse(
            calling(call(0, "a", "bash", "")),
            calling(call(0, "b", "bash", LS[:7])),
            calling(call(0, "c", "bash", LS[7:])),
            CALLS,
            usage(),
        ),
        ONE,
    ),
    "the name in pieces": (
        sse(calling(call(0, "a", "ba")), calling(call(0, name="sh")), calling(call(0, arguments=LS)), CALLS, usage()),
        ONE,
    ),
    "the id comes late": (sse(calling(call(0, None, "bash", LS)), calling(call(0, "a")), CALLS, usage()), ONE),
    "the whole arguments again at the end": (
        sse(
            calling(call(0, "a", "bash", "")),
            calling(call(0, arguments=LS)),
            calling(call(0, arguments=LS)),
            CALLS,
            usage(),
        ),
        ONE,
    ),
    "arguments as an object": (sse(calling(call(0, "a", "bash", {"command": "ls"})), CALLS, usage()), ONE),
    "one call, not a list": (sse(chunk({"tool_calls": call(0, "a", "bash", LS)}), CALLS, usage()), ONE),
    "calls, but the end says stop": (sse(calling(call(0, "a", "bash", LS)), STOP, usage()), ONE),
    "the end says calls, but there are none": (sse(HEL, LO, CALLS, usage()), HELLO),
    "the call in the last chunk": (sse(chunk({"tool_calls": [call(0, "a", "bash", LS)]}, "tool_calls"), usage()), ONE),
    "no arguments at all": (
        sse(calling(call(0, "a", "plan")), CALLS, usage()),
        Told(calls=(("plan", ""),), finish="calls", usage=Usage(12, 5)),
    ),
    "arguments that are no JSON stay as written": (
        sse(calling(call(0, "a", "bash", '{"command": ')), CALLS, usage()),
        Told(calls=(("bash", '{"command": '),), finish="calls", usage=Usage(12, 5)),
    ),
    # ------------------------------------------------------------------------------------------------------- the ends
    "out of room": (sse(HEL, LO, chunk({}, "length"), usage()), Told("Hello you", finish="length", usage=Usage(12, 5))),
    "out of room within a call": (
        sse(calling(call(0, "a", "bash", LS[:7])), chunk({}, "length"), usage()),
        Told(calls=(("bash", LS[:7]),), finish="length", usage=Usage(12, 5)),
    ),
    "filtered": (
        sse(HEL, LO, chunk({}, "content_filter"), usage()),
        Told("Hello you", finish="filter", usage=Usage(12, 5)),
    ),
    "an end token as the reason": (sse(HEL, LO, chunk({}, "eos_token"), usage()), HELLO),
    "an unknown reason": (
        sse(HEL, LO, chunk({}, "tired"), usage()),
        Told("Hello you", finish="other", usage=Usage(12, 5)),
    ),
    "nothing at all": (sse(STOP, usage()), Told(usage=Usage(12, 5))),
    # ----------------------------------------------------------------------------------------------------------- usage
    "no usage": (sse(HEL, LO, STOP), Told("Hello you")),
    "usage of zeros is none": (sse(HEL, LO, STOP, usage(0, 0)), Told("Hello you")),
    "usage in every chunk": (
        sse(chunk({"content": "Hello"}, usage=usage(12, 1)["usage"]), LO, chunk({}, "stop", usage=usage()["usage"])),
        HELLO,
    ),
    "null usage in every chunk": (sse(chunk({"content": "Hello you"}, usage=None), STOP, usage()), HELLO),
    "usage within the choice (Moonshot)": (
        sse(HEL, LO, {"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage()["usage"]}]}),
        HELLO,
    ),
    "usage of Groq": (sse(HEL, LO, chunk({}, "stop", x_groq={"usage": usage()["usage"]})), HELLO),
    "cached and reasoning tokens": (
        sse(
            HEL,
            LO,
            STOP,
            usage(
                100,
                50,
                prompt_tokens_details={"cached_tokens": 64, "cache_write_tokens": 9},
                completion_tokens_details={"reasoning_tokens": 20},
            ),
        ),
        Told("Hello you", usage=Usage(100, 50, 64, 9, 20)),
    ),
    "cached tokens of DeepSeek": (
        sse(HEL, LO, STOP, usage(100, 50, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36)),
        Told("Hello you", usage=Usage(100, 50, 64)),
    ),
    "cached tokens of Moonshot": (
        sse(HEL, LO, STOP, usage(100, 50, cached_tokens=64)),
        Told("Hello you", usage=Usage(100, 50, 64)),
    ),
    "more cached than sent": (
        sse(HEL, LO, STOP, usage(10, 5, cached_tokens=64)),
        Told("Hello you", usage=Usage(10, 5, 10)),
    ),
    "thinking counted apart (xAI)": (
        sse(HEL, LO, STOP, usage(100, 50, total_tokens=170, completion_tokens_details={"reasoning_tokens": 20})),
        Told("Hello you", usage=Usage(100, 70, 0, 0, 20)),
    ),
    "null details": (
        sse(HEL, LO, STOP, usage(prompt_tokens_details=None, completion_tokens_details={"reasoning_tokens": None})),
        HELLO,
    ),
}
