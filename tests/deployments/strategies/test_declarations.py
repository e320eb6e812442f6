"""The section `strategies`: checked against the driver and the instances, applied once, and used by the next plan."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.audit.models import Entry
from deployments.models import StrategyTable
from deployments.strategies.asking import settings_of
from environments.models import Placement

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

ESTATE = """
[services.shop]
[services.api]

[environments.production]
driver = "local"
settings = { balancer = { kind = "haproxy", socket = "/run/haproxy.sock", backend = "shop" } }

[environments.production.services.shop]
instances = [{ name = "shop-1", address = "auto" }, { name = "shop-2", address = "auto" }]

[environments.production.services.api]
instances = [{ name = "api-1", address = "auto" }, { name = "api-2", address = "auto" }]

[environments.cloud]
driver = "ecs"
settings = { region = "eu-central-1", cluster = "main" }

[environments.cloud.services.shop]
instances = [{ name = "cloud-shop" }]
"""
CANARY = """
[strategies.production]
strategy = "canary"
also = ["rolling"]

[strategies.production.canary]
share_percent = 20
without_verdict = "proceed"

[strategies.production.services.api]
strategy = "blue_green"

[strategies.production.services.api.blue_green]
blue = ["api-1"]
green = ["api-2"]
"""
Apply = Callable[..., str]


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a text below the estate; returns what was said."""

    def apply(text: str, estate: str = ESTATE) -> str:
        file = tmp_path / "company.toml"
        file.write_text(estate + text)
        call_command("apply", str(file), "--yes")
        return capsys.readouterr().out

    return apply


def placement(service: str) -> Placement:
    return Placement.objects.get(environment__slug="production", service__slug=service)


def test_it_is_applied_once_and_audited(apply: Apply) -> None:
    said = apply(CANARY)
    assert "+ strategies.production\n" in said
    assert "+ strategies.production.services.api" in said
    assert "strategies" not in apply(CANARY)
    trail = Entry.objects.filter(action="strategy.declared").order_by("pk")
    assert [entry.target for entry in trail] == ["strategy of production", "strategy of api in production"]


def test_a_service_has_its_own_and_the_others_what_the_environment_says(apply: Apply) -> None:
    apply(CANARY)
    shop, api = settings_of(placement("shop")), settings_of(placement("api"))
    assert (shop.strategy, shop.choices, shop.canary.share_percent) == ("canary", ("canary", "rolling"), 20)
    assert (api.strategy, api.blue_green.blue, api.blue_green.green) == ("blue_green", ("api-1",), ("api-2",))


def test_without_any_it_is_rolling(apply: Apply) -> None:
    apply("")
    assert settings_of(placement("shop")).choices == ("rolling",)


def test_a_table_that_goes_is_gone_and_what_the_file_does_not_name_is_left_alone(apply: Apply) -> None:
    apply(CANARY)
    said = apply('[strategies.production]\nstrategy = "canary"\n')
    assert "- strategies.production.services.api" in said
    assert settings_of(placement("api")).strategy == "canary"
    apply("")
    assert StrategyTable.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[strategies.mars]\nstrategy = "rolling"', "strategies.mars: there is no environment mars"),
        ('[strategies.production]\nstrategy = "big_bang"', "“big_bang” is not known; write one of: blue_green, canary"),
        ('[strategies.production]\nalso = ["fast"]', "strategies.production.also: “fast” is not known"),
        ('[strategies.production]\nstrategi = "canary"', "is not a key of this table"),
        ("[strategies.production.canary]\nshare_percent = 90", "share_percent: has to be a whole number from 1 to 50."),
        ("[strategies.production.canary]\nshare = 5", "share: is no setting of it; there are instances, count"),
        ('[strategies.production.canary]\nwithout_verdict = "wait"', 'has to be "abort" or "proceed".'),
        ('[strategies.production.canary]\ninstances = "shop-1"', "has to be a list of names of instances"),
        ('[strategies.production.canary]\ninstances = ["x-1"]', "x-1 is no instance of production; there are api-1"),
        (
            '[strategies.production.services.shop.canary]\ninstances = ["api-1"]',
            "api-1 is no instance of production; there are shop-1, shop-2.",
        ),
        ('[strategies.production.services.web]\nstrategy = "rolling"', "services.web: has no place in production"),
        ('[strategies.production]\nstrategy = "blue_green"', "needs a table blue_green that names the instances"),
        (
            '[strategies.cloud]\nstrategy = "canary"',
            "Canary needs a driver that deploys instance by instance: local and hosts do, ecs brings a release to the "
            "whole service at once. Choose rolling.",
        ),
        ('[strategies.cloud]\nalso = ["canary"]', "strategies.cloud.also: Canary needs a driver"),
    ],
)
def test_what_cannot_be_is_said_with_its_key(apply: Apply, text: str, words: str) -> None:
    with pytest.raises(CommandError) as refused:
        apply(f"{text}\n")
    assert words in str(refused.value)
    assert not StrategyTable.objects.exists()


def test_a_load_balancer_of_the_local_driver_is_checked_too(apply: Apply) -> None:
    with pytest.raises(CommandError) as refused:
        apply("", ESTATE.replace('backend = "shop"', 'backend = ""'))
    assert "balancer: backend has to be the name of a backend." in str(refused.value)
    with pytest.raises(CommandError) as refused:
        apply("", ESTATE.replace('kind = "haproxy"', 'kind = "magic"'))
    assert "balancer: has to be a table whose kind is one of classic_elb, haproxy" in str(refused.value)
