"""One of each component, with words of every length: what tests look at."""

from datetime import timedelta
from pathlib import Path

from django import forms
from django.utils import timezone
from django.utils.safestring import mark_safe

OLD = "sha256:9b1c" + "0" * 56 + "44e0"
NEW = "sha256:e07a" + "0" * 56 + "91d2"

BODY = (Path(__file__).parent / "components.html").read_text()


class Decision(forms.Form):
    version = forms.ChoiceField(choices=[("1", "1.5.0")])
    reason = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), help_text="People read it in the history.")
    sure = forms.BooleanField(label="The window is open", required=False)


def _cell(tone: str, word: str, **more: object) -> dict[str, object]:
    return {"version": "1.4.0", "tone": tone, "word": word, "note": "since Mon 09:30 · alice", "health": None, **more}


def _step(title: str, tone: str, aside: str = "", *, sub: bool = False) -> dict[str, object]:
    return {"title": title, "tone": tone, "word": tone, "aside": aside, "sub": sub}


def context() -> dict[str, object]:
    """The inputs of BODY."""
    began = timezone.now() - timedelta(seconds=108)
    form = Decision({"version": "1", "reason": ""})
    form.add_error(None, "Another deployment is running: yours waits behind it.")
    levels = ("", "note", "warn", "err")
    lines = "".join(
        f'<li id="L{n}" class="{levels[n % 4]}"><a href="#L{n}">{n}</a><time>14:34:02.114</time>'
        f"<span>production-2: GET /health → 200 in 12 ms, and a long rest {'x' * 90}</span></li>"
        for n in range(1, 40)
    )
    return {
        "began": began,
        "until": began + timedelta(hours=23),
        "cards": [
            {"tone": tone, "title": f"{tone} card", "text": "9 min ago", "url": "/x", "percent": percent}
            for tone, percent in (("bad", None), ("busy", 62), ("wait", None))
        ],
        "facts": [("from", f"1.4.0 {OLD[:20]}"), ("asked by", "alice, 14:31 “checkout fix, OPS-214”")],
        "columns": [{"name": name, "url": "/x", "note": ""} for name in ("Development", "Staging", "Production", "DR")],
        "rows": [
            {
                "title": "pitchey-backend",
                "sub": "api.pitchey.com",
                "cells": [
                    _cell("ok", "1/1 healthy", health=[11.0, 12, 11]),
                    _cell("busy", "2/3 moving", health=[9, None, 8], health_label="8 ms"),
                    _cell("bad", "2/3 healthy", action="Roll back to 1.3.9", action_url="/x"),
                    _cell("idle", "0/3 cold", health=[]),
                ],
            },
            {"title": "PostgreSQL", "sub": "db", "cells": [_cell("ok", "up"), {}, {}, {}]},
        ],
        "lines": mark_safe(lines),
        "steps": [
            _step("Check the gates", "ok", "0.4 s") | {"before": f"1.4.0 {OLD[:12]}", "after": f"1.5.0 {NEW[:12]}"},
            _step("production-2", "busy", "24 s"),
            _step("check health", "busy", "1 of 3", sub=True),
            _step("register", "idle", sub=True),
            _step("production-3", "wait") | {"note": "on failure: back to 1.4.0"},
        ],
        "gates": [
            {"title": f"Gate {outcome}", "outcome": outcome, "reason": "Because. Carol can release it."}
            for outcome in ("passed", "pending", "failed")
        ],
        "events": [
            {"at": began, "tone": tone, "text": "Deployed 1.5.0", "aside": "alice", "pinned": tone == "bad"}
            for tone in ("ok", "busy", "wait", "bad", "idle")
        ],
        "form": form,
    }
