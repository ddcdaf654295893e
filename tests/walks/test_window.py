"""A server that holds less than anybody knew: the reply gets shorter, the turn goes on, the next session knows."""

import json

from tests.walks.walk import MODEL, Hearing, Walk, bash, step


async def test_a_window_that_only_the_refusal_names_costs_one_request_and_is_known_to_the_next_session(walk: Walk):
    async with Hearing([step(0, text="Done.")], window=16_000) as model:
        first = await walk.say(model, "go")
        asked = [json.loads(body)["max_tokens"] for body in model.bodies]
        second = await walk.say(model, "go")
        again = [json.loads(body)["max_tokens"] for body in model.bodies[len(asked) :]]
    assert (first.code, first.out.strip()) == (0, "Done."), first.said
    assert (asked[0], 2_048 < asked[1] < 16_000, len(asked)) == (16_384, True, 2)
    assert "holds 16,000 tokens (kept for 1 h)" in first.err
    assert (second.code, again) == (0, asked[1:]), second.said
    assert "learned" not in second.err


async def test_a_prompt_that_fits_is_not_summarised_because_the_reply_was_too_long(walk: Walk):
    text = "x" * 6_000
    async with Hearing([step(0, bash(f"echo {text}")), step(1, text="Done.")], window=25_500) as model:
        done = await walk.say(model, f"go {text[:2_000]}")
        assert len(model.bodies) == 3, done.said
    assert (done.code, "summary" in done.err) == (0, False), done.said


async def test_a_window_that_is_too_small_for_the_prompt_ends_the_turn_with_what_to_do(walk: Walk):
    async with Hearing([step(0, text="Done.")], window=4_096) as model:
        done = await walk.run("go", *MODEL, "--base-url", model.url)
        assert len(model.bodies) <= 2, done.said
    assert (done.code, "choose a model with a larger window" in done.err) == (1, True), done.said
