"""The section `channels` of the configuration file: by what people are reached."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from incidents.channels import CHANNELS
from incidents.models import Channel


def read_channels(file: Table) -> dict[str, dict[str, Any]]:
    """The settings of each channel, by its kind."""
    found = {}
    for kind, table in file.tables("channels"):
        if kind not in CHANNELS:
            file.below("channels").wrong(kind, f"is no channel; there are {', '.join(sorted(CHANNELS))}.")
            continue
        settings = table.rest()
        for name, words in sorted(CHANNELS[kind].check_settings(settings).items()):
            table.wrong(name, f"{words}.")
        found[kind] = settings
    return found


def channel_changes(declared: dict[str, dict[str, Any]]) -> Iterator[Change]:
    """Channels that come or become different."""
    there = {one.kind: one.settings for one in Channel.objects.all()}
    for kind, wanted in declared.items():
        changes = difference(there.get(kind, {}), wanted)
        if changes or kind not in there:
            yield Change(
                "~" if kind in there else "+", f"channels.{kind}", lines_of(changes),
                partial(Channel.objects.update_or_create, kind=kind, defaults={"settings": wanted}),
                Trace("channel.declared", f"channel {kind}", data={"changes": changes}),
            )  # fmt: skip


def channels_left_alone(declared: dict[str, dict[str, Any]]) -> list[str]:
    """Channels that exist and are not in the file."""
    return [f"channel {kind}" for kind in Channel.objects.exclude(kind__in=declared).values_list("kind", flat=True)]


SECTION = Section("channels", read_channels, channel_changes, channels_left_alone)
