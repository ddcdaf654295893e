"""Pictures that a person sends along: what reaches the model over both wires, what is kept, what is refused."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ml_intern.app.choices import Played
from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.wire import open_session
from ml_intern.base.errors import BadSettings
from ml_intern.model.port import ModelInfo
from ml_intern.model.prices import FREE
from ml_intern.model.scripted import Scripted
from ml_intern.record.events import UserSaid
from tests.doubles.anthropic_server import AnthropicDouble
from tests.tools.test_read_media import GIF, JPEG, png
from tests.walks.walk import MODEL, Hearing, Walk, step, story

NOWHERE = (*MODEL, "--base-url", "http://127.0.0.1:9/v1")


def seen(body: bytes) -> list[str]:
    parts = [
        part for row in json.loads(body)["messages"] if isinstance(row["content"], list) for part in row["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


async def test_pictures_reach_the_model_with_the_prompt_and_stay_for_the_next(walk: Walk):
    # Known by what they hold: the name says nothing.
    (walk.place / "loss").write_bytes(png(40, 30))
    (walk.place / "b.png").write_bytes(JPEG)
    (walk.place / "c.txt").write_bytes(GIF)
    flags = ("--image", str(walk.place / "loss"), "--image", str(walk.place / "b.png"))
    async with Hearing(story(end="A curve.")) as double:
        done = await walk.say(double, "what is this?", *flags)
        assert (done.code, done.out) == (0, "A curve.\n"), done.said
        first = [url("image/png", png(40, 30)), url("image/jpeg", JPEG)]
        assert seen(double.bodies[-1]) == first
        assert '"text":"what is this?"' in double.bodies[-1].decode()
    async with Hearing([step(1, text="Another.")]) as double:
        done = await walk.run("resume", "last", "and this?", "--image", "../c.txt", "--base-url", double.url)
        assert done.code == 0, done.said
        assert seen(double.bodies[-1]) == [*first, url("image/gif", GIF)]
    said = [each.event for each in await walk.entries() if isinstance(each.event, UserSaid)]
    assert [[image.mime for image in each.images] for each in said] == [["image/png", "image/jpeg"], ["image/gif"]]
    shown = (await walk.run("show")).out
    sha = said[0].images[0].sha
    assert f"> what is this?\n> (image/png, kept as {sha})\n" in shown
    kept = await walk.run("show", "last", "--blob", sha, before=("bash", "-c", f'"$0" "$@" > {walk.place}/out'))
    assert kept.code == 0
    assert (walk.place / "out").read_bytes() == png(40, 30)


async def test_over_the_messages_api_too(walk: Walk):
    (walk.workspace / "a.png").write_bytes(png())
    async with AnthropicDouble([{"reply": {"text": "Seen."}}]) as double:
        there = ("--model", "anthropic-compatible/m", "--base-url", double.url)
        done = await walk.run("look", "--image", "a.png", *there)
        assert done.code == 0, done.said
        blocks: list[dict[str, Any]] = double.bodies[0]["messages"][0]["content"]
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    assert [block.get("source") for block in blocks if block["type"] == "image"] == [source]


def spoilt(name: str, place: Path) -> None:
    match name:
        case "folder":
            (place / name).mkdir()
        case "pipe":
            os.mkfifo(place / name)
        case "text" | "empty":
            (place / name).write_text("loss = 0.1\n" if name == "text" else "")
        case "broken":
            (place / name).write_bytes(png()[:-12])
        case "wide":
            (place / name).write_bytes(png(1_569, 1))
        case "huge":
            (place / name).write_bytes(png() + b"\0" * 6_000_000)
        case _:
            pass


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "--image missing: it cannot be read (No such file or directory)."),
        ("", "--image : it cannot be read (Is a directory)."),
        ("folder", "--image folder: it cannot be read (Is a directory)."),
        ("pipe", "--image pipe: it is no file."),
        ("text", "--image text: it is no picture."),
        ("empty", "--image empty: it is no picture."),
        ("broken", "breaks off before its end."),
        ("wide", "--image wide is too large to look at: image/png, 1,569 × 1 pixels"),
        ("huge", "--image huge is too large: 6.0 MB; at most 3.7 MB."),
        ("https://example.invalid/a.png", "it takes a file, not an address."),
        ("a\0b", "it cannot be read (its name is none)"),
    ],
)
def test_what_is_no_picture_is_a_sentence_and_a_remedy(name: str, words: str, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    spoilt(name, tmp_path)
    with pytest.raises(BadSettings) as raised:
        make_launch(Flags(image=(name,)), {})
    assert words in raised.value.what
    assert raised.value.remedy


def test_too_many_and_too_much_are_told(tmp_path: Path):
    (tmp_path / "a").write_bytes(png())
    (tmp_path / "b").write_bytes(png()[:-12] + b"\0" * 3_500_000 + png()[-12:])
    many, much = (str(tmp_path / "a"),) * 21, (str(tmp_path / "b"),) * 6
    with pytest.raises(BadSettings, match="21 images are too many: at most 20"):
        make_launch(Flags(image=many), {})
    with pytest.raises(BadSettings, match="The images hold 21 MB together: at most 20 MB"):
        make_launch(Flags(image=much), {})


async def test_nothing_is_started_of_a_picture_that_cannot_be_sent(walk: Walk):
    wrong = await walk.run("go", *NOWHERE, "--image", "nowhere.png")
    assert (wrong.code, wrong.out) == (2, ""), wrong.said
    assert wrong.err.count("\n") == 2
    assert not (walk.data / "sessions").exists()


async def test_a_picture_without_a_message_is_told(walk: Walk):
    (walk.workspace / "a.png").write_bytes(png())
    async with Hearing(story(end="Done.")) as double:
        assert (await walk.say(double, "go")).code == 0
    done = await walk.run("resume", "last", "--image", "a.png")
    assert done.code == 2
    assert "An image goes along with a message." in done.err


async def test_a_model_that_cannot_see_is_told_before_anything_is_made(walk: Walk):
    (walk.workspace / "a.png").write_bytes(png())
    blind = Played(Scripted([]), ModelInfo("test/blind", 8_192, 4_096, FREE, "nobody", images=False))
    launch = make_launch(Flags(cwd=str(walk.workspace), image=(str(walk.workspace / "a.png"),)), walk.environ)
    with pytest.raises(BadSettings, match="test/blind cannot see images") as raised:
        async with open_session(launch, played=blind):
            pass
    assert "--image" in raised.value.remedy
    assert list((walk.data / "sessions").glob("*")) == []
