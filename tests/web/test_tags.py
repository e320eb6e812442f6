"""Each tag and filter of `ui` says what docs/ui.md promises."""

from datetime import UTC, datetime, timedelta

import pytest
from django import forms
from django.template import Context, Template
from django.test import RequestFactory
from django.utils import timezone

from controlplane.web.templatetags import ui

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def render(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_state_is_a_shape_and_a_word() -> None:
    assert render('{% state "ok" word %}', word="<done>") == '<span class="state ok">&lt;done&gt;</span>'


def test_an_unknown_tone_is_an_error() -> None:
    with pytest.raises(ValueError, match="purple"):
        ui.state("purple", "odd")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"), (0, "0 s"), (0.42, "0.4 s"), (0.04, "0 s"), (9.96, "10 s"), (41, "41 s"), (59.6, "1 m 0 s"),
        (108, "1 m 48 s"), (3600, "1 h 0 m"), (10_200, "2 h 50 m"), (3 * 86400 + 4 * 3600, "3 d 4 h"),
        (timedelta(seconds=130), "2 m 10 s"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, words: str) -> None:
    assert plain(ui.duration(seconds)) == words


@pytest.mark.parametrize(("seconds", "words"), [(4 * 3600, "4 h"), (5400, "1 h 30 m"), (60, "1 m"), (40, "40 s")])
def test_promised(seconds: float, words: str) -> None:
    assert plain(ui.promised(seconds)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "now"), (-3, "now"), (42, "42 s ago"), (60, "1 min ago"), (3599, "59 min ago"), (7200, "2 h ago"),
        (86400, "1 day ago"), (12 * 86400, "12 days ago"), (-180, "in 3 min"), (-86400, "in 1 day"),
    ],
)  # fmt: skip
def test_ago(seconds: float, words: str) -> None:
    assert plain(ui.ago(NOON - timedelta(seconds=seconds), NOON)) == words


def test_when_is_relative_and_absolute_on_hover() -> None:
    html = ui.when(timezone.now() - timedelta(minutes=3, seconds=2))
    assert ">3\u00a0min ago<" in html
    assert "data-ago" in html
    assert 'title="Tue 24 Nov 2026, 12:00:00 UTC"' in ui.when(NOON)


def test_when_of_nothing_is_a_dash() -> None:
    assert (ui.when(None), ui.moment(None), ui.elapsed(None)) == ("–", "–", "–")


def test_moment_says_the_day_only_when_it_is_another() -> None:
    now = timezone.now()
    assert f">{now:%H:%M}<" in ui.moment(now)
    assert ">3 Feb 2020 04:05<" in ui.moment(datetime(2020, 2, 3, 4, 5, tzinfo=UTC))


def test_elapsed_goes_on() -> None:
    html = plain(ui.elapsed(timezone.now() - timedelta(seconds=108.2)))
    assert "data-since" in html
    assert ">1 m 48 s<" in html


@pytest.mark.parametrize(("seconds", "words"), [(161, "02:41"), (3599, "59:59"), (3601, "1:00:01"), (-5, "00:00")])
def test_countdown(seconds: float, words: str) -> None:
    assert f">{words}<" in ui.countdown(timezone.now() + timedelta(seconds=seconds - 0.1))


def test_digest_is_short_and_whole_on_hover() -> None:
    whole = "sha256:e07a" + "0" * 56 + "91d2"
    html = ui.digest(whole)
    assert ">sha256:e07a…91d2<" in html
    assert f'title="{whole}"' in html
    assert ">not-a-digest<" in ui.digest("not-a-digest")
    assert ui.digest("") == "–"


def test_sparkline_breaks_where_nobody_answered() -> None:
    html = render('{% sparkline values "bad" "probes" %}', values=[10, 10, None, 10])
    assert html.count("M") == 1 + 2  # the tick, and two pieces of line
    assert 'class="spark bad"' in html
    assert 'aria-label="probes"' in html


def test_sparkline_starts_its_scale_at_zero() -> None:
    lines = ui.sparkline([100, 101, 100])["line"]
    heights = {float(point.split()[1].split("h")[0]) for point in str(lines).replace("M", "L").split("L")[1:]}
    assert max(heights) - min(heights) < 0.5


def test_sparkline_of_nothing_rests() -> None:
    assert 'class="rest"' in render("{% sparkline values %}", values=[])
    assert 'aria-hidden="true"' in render("{% sparkline values %}", values=[])


class Sample(forms.Form):
    reason = forms.CharField(help_text="People read it in the history.")
    sure = forms.BooleanField(required=False)


def test_a_wrong_field_is_tied_to_its_error_and_its_hint() -> None:
    html = render('{% include "web/_form.html" %}', form=Sample({"reason": ""}))
    assert 'aria-invalid="true"' in html
    assert 'aria-describedby="id_reason_helptext id_reason_error"' in html
    assert 'id="id_reason_helptext"' in html
    assert 'id="id_reason_error"' in html
    assert 'class="form-check-input"' in html


@pytest.mark.usefixtures("shell_urls")
@pytest.mark.parametrize(
    ("path", "name", "marked"),
    [
        ("/", "board", True), ("/deployments", "deployments", True), ("/deployments/new", "deployments", True),
        ("/deployments", "board", False), ("/releases", "deployments", False),
    ],
)  # fmt: skip
def test_current_marks_the_page_and_those_below(path: str, name: str, marked: bool) -> None:
    html = render(f'<a{{% current "{name}" %}}>', request=RequestFactory().get(path))
    assert ("aria-current" in html) is marked
