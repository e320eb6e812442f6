"""What a stream says, and to whom."""

import json
import re
from pathlib import Path

import pytest
from django.db import transaction

from controlplane.embedded.processes import wait_until
from controlplane.live import topics
from controlplane.live.ring import ring
from controlplane.live.sources import WORDS
from tests.live.conftest import Open, Web
from tests.live.rows import Message, query, say, set_status

ROOT = Path(__file__).resolve().parents[2]


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.id) for message in messages if message.event == "line"]


def test_rows_come_after_the_cursor_and_then_as_they_are_written(watch: Open) -> None:
    say("a", "one", "two", "three")
    stream = watch("/live/rows/a?after=1")
    assert stream.until("line", "<li>three</li>") == [
        Message("line", "<li>two</li>", "2"),
        Message("line", "<li>three</li>", "3"),
    ]
    say("b", "of another key")
    say("a", "four")
    assert stream.until("line", "<li>four</li>") == [Message("line", "<li>four</li>", "4")]


def test_its_headers_keep_it_out_of_caches_and_buffers(watch: Open) -> None:
    response = watch("/live/rows/a").response
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_long_log_is_read_in_pages(watch: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "PAGE_ROWS", 10)
    say("a", *map(str, range(1, 96)))
    assert numbers(watch("/live/rows/a").until("line", "<li>95</li>")) == list(range(1, 96))


def test_more_at_once_than_a_page_comes_whole(watch: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "PAGE_ROWS", 10)
    say("a", "first")
    stream = watch("/live/rows/a")
    stream.until("line", "<li>first</li>")
    say("a", *map(str, range(2, 48)))
    assert numbers(stream.until("line", "<li>47</li>")) == list(range(2, 48))


def test_a_returning_browser_goes_on_after_its_last_row_and_hears_the_news(watch: Open) -> None:
    say("a", "one", "two", "three")
    stream = watch("/live/rows/a?after=0", Last_Event_ID="2")
    assert stream.until("line", "<li>three</li>") == [Message("line", "<li>three</li>", "3")]
    assert stream.until_news(*WORDS) == [Message("news", " ".join(WORDS))]


def test_a_cursor_from_the_future_counts_as_the_newest_row(watch: Open) -> None:
    say("a", "one")
    stream = watch("/live/rows/a?after=1000")
    set_status("a", "seen")
    stream.until("status", "<p>seen</p>")
    say("a", "two")
    assert numbers(stream.until("line", "<li>two</li>")) == [2]


def test_the_status_comes_first_and_again_when_it_changes(watch: Open) -> None:
    set_status("a", "running")
    say("a", "one")
    stream = watch("/live/rows/a")
    assert [message.event for message in stream.until("line", "<li>one</li>")] == ["status", "line"]
    set_status("a", "running")
    set_status("a", "waiting")
    assert stream.until("status", "<p>waiting</p>") == [Message("status", "<p>waiting</p>")]


def test_a_status_that_changes_with_a_row_comes_after_it(watch: Open) -> None:
    set_status("a", "running")
    stream = watch("/live/rows/a")
    stream.until("status", "<p>running</p>")
    with transaction.atomic():
        query("UPDATE live_status SET text = 'stepped' WHERE key = 'a'")
        say("a", "one")
    assert [message.event for message in stream.until("status", "<p>stepped</p>")] == ["line", "status"]


def test_the_end_comes_last_and_closes_the_stream(watch: Open) -> None:
    stream = watch("/live/rows/a")
    say("a", "one")
    stream.until("line", "<li>one</li>")
    say("a", "two")
    set_status("a", "done")
    assert [message.event for message in stream.messages() if message.event != "news"] == ["line", "status", "end"]


def test_what_has_ended_is_shown_and_closed(watch: Open) -> None:
    say("a", "one")
    set_status("a", "done")
    assert [message.event for message in watch("/live/rows/a").until("end", "")] == ["status", "line", "status", "end"]


def test_news_reaches_every_stream(watch: Open) -> None:
    streams = [watch("/live/news"), watch("/live/rows/a")]
    for word in ("bakery", "inbox", "bakery"):
        ring("news", word)
    for stream in streams:
        assert stream.until_news("bakery", "inbox")


def test_every_part_of_a_page_that_listens_is_among_the_words() -> None:
    """Else it would hear nothing while Redis is away, or after a gap."""
    pages = (ROOT / "templates").rglob("*.html")
    listened = {word for page in pages for word in re.findall(r"news-([a-z_]+) from:body", page.read_text())}
    assert listened and listened <= set(WORDS)


def heard(watch: Open) -> str:
    """What a page that is asked for now brings along, once the process hears anything."""

    def ask() -> str:
        return watch("/").response.headers["heard"] or ""

    assert wait_until(lambda: ask() != "", 30)
    return ask()


@pytest.mark.parametrize("path", ["/live/news", "/live/rows/a"])
def test_a_page_hears_what_came_between_its_making_and_its_stream(watch: Open, path: str) -> None:
    earlier = heard(watch)  # from now on only what rings is told
    early, other = watch("/live/news"), watch("/live/news")
    ring("news", "bakery")
    early.until_news("bakery")
    page = heard(watch)
    ring("news", "inbox health")
    other.until_news("inbox", "health")
    assert watch(f"{path}?heard={page}").until_news("inbox") == [Message("news", "health inbox")]
    assert watch(f"{path}?heard={earlier}").until_news("inbox") == [Message("news", "bakery health inbox")]
    latest = watch(f"{path}?heard={heard(watch)}")
    ring("news", "world")
    assert latest.until_news("world") == [Message("news", "world")]


@pytest.mark.parametrize("heard", ["", f"{'0' * 32}-1"])
def test_a_page_of_which_nobody_can_say_hears_everything(watch: Open, heard: str) -> None:
    assert watch(f"/live/news?heard={heard}").until_news(*WORDS) == [Message("news", " ".join(WORDS))]


def test_programs_get_json(watch: Open) -> None:
    say("a", "one")
    assert watch("/live/rows/a", Authorization="Bearer bob").until("line", '"one"')
    assert watch("/live/rows/a?as=json").until("line", '"one"')
    assert watch("/live/rows/a?as=html", Authorization="Bearer bob").until("line", "<li>one</li>")


def test_a_text_of_several_lines_stays_one_message(watch: Open) -> None:
    say("a", "one\ntwo\rthree\r\n\nfour")
    assert watch("/live/rows/a").until("line", "<li>one\ntwo\nthree\n\nfour</li>")


@pytest.mark.parametrize(
    ("path", "person", "method", "status"),
    [
        ("/live/rows/a", "nobody", "GET", 401),
        ("/live/news", "nobody", "GET", 401),
        ("/live/rows/a", "charlie", "GET", 403),
        ("/live/rows/hidden", "alice", "GET", 404),
        ("/live/rows/a?after=-1", "alice", "GET", 400),
        ("/live/rows/a?after=", "alice", "GET", 400),
        ("/live/rows/a?after=1e3", "alice", "GET", 400),
        ("/live/rows/a?after=9223372036854775808", "alice", "GET", 400),
        ("/live/rows/a?as=xml", "alice", "GET", 400),
        ("/live/news?heard=1", "alice", "GET", 400),
        (f"/live/news?heard={'0' * 32}-{'9' * 5000}", "alice", "GET", 400),
        ("/live/rows/a", "alice", "POST", 405),
        ("/live/rows/a", "alice", "HEAD", 200),
        ("/live/news", "alice", "HEAD", 200),
    ],
)
def test_who_and_what_gets_no_stream(watch: Open, path: str, person: str, method: str, status: int) -> None:
    response = watch(path, person, method=method).response
    body = response.read()
    assert response.status == status
    if status == 200:
        assert body == b""
    else:
        assert json.loads(body)["status"] == status
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/live", "/live/", "/live/unknown/1", "/live/rows/a/b", "/live/rows/"])
def test_other_addresses_are_djangos(watch: Open, path: str) -> None:
    assert watch(path).response.read() == b"Django"


def test_when_the_last_viewer_leaves_the_topic_ends(watch: Open, web: Web) -> None:
    first, second = watch("/live/rows/a"), watch("/live/rows/a")
    assert list(web.hub.topics) == ["rows/a"]
    first.close()
    second.close()
    assert wait_until(lambda: not web.hub.topics, 30)
