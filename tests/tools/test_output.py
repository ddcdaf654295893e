import time

from ml_intern.tools.output import SHOWN_CHARS, cleaned, shortened


def test_a_progress_bar_without_line_breaks_leaves_its_last_state(tmp_path):
    path = tmp_path / "output"
    with path.open("w") as file:
        file.write("start\n")
        for n in range(300_000):
            file.write(f"\r{n:6}/300000 it")
        file.write("\nend\n")
    assert cleaned(path) == "start\n299999/300000 it\nend\n"


def test_a_character_across_two_pieces_is_whole(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"x" * ((1 << 20) - 1) + "é\n".encode())
    assert cleaned(path).endswith("xé\n")


def test_line_ends_of_windows_across_two_pieces_are_line_ends(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"x" * ((1 << 20) - 1) + b"\r\ny\r\n")
    assert cleaned(path) == "x" * ((1 << 20) - 1) + "\ny\n"


def test_bytes_that_are_no_text_become_replacement_characters(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"a\xff\0b\x08")
    assert cleaned(path) == "a�b"


def test_one_very_long_line_is_kept(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"x" * (10 << 20))
    begun = time.monotonic()
    assert len(cleaned(path)) == 10 << 20
    assert time.monotonic() - begun < 5


def test_ten_megabytes_with_letters_beyond_ascii_take_no_longer_than_to_look_through_them(tmp_path):
    path = tmp_path / "output"
    path.write_bytes("epoch 1 ████ loss 0.1\n".encode() * 400_000)
    begun = time.process_time()
    whole = path.read_text()
    for _ in range(40):
        assert "\0" not in whole
    looked_s = time.process_time() - begun
    begun = time.process_time()
    assert cleaned(path) == whole
    assert time.process_time() - begun < 6 * looked_s


def test_what_is_shown_is_a_quarter_head_and_the_rest_tail():
    text = shortened("\n".join(f"line {n:05}" for n in range(10_000)), "see there")
    head, _, tail = text.partition("\n[... ")
    assert SHOWN_CHARS * 0.2 < len(head) <= SHOWN_CHARS * 0.25
    assert len(text) < SHOWN_CHARS + 200
    assert "the whole output has 10,000 lines; see there ...]\n" in tail
    assert tail.endswith("line 09999")
