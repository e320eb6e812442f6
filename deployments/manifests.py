"""What a driver would apply for a release, as files: Kubernetes manifests, a task definition, compose files."""

from argparse import ArgumentParser
from typing import Any

from controlplane.operations.errors import Invalid
from controlplane.operations.masking import SHORTEST, Masker
from deployments.by_digest import releases_with
from deployments.exporting import Export
from deployments.models import Release
from deployments.services import software_of
from environments.drivers import DRIVERS
from environments.drivers.base import Document, Exportable
from environments.models import Environment, Placement
from environments.secrets import referenced_variables, secrets_of
from environments.targets import target_of


def documents_of(environment: Environment, service: str, version: str = "") -> list[Document]:
    """The files for a version, or for what was deployed last. Secrets stand in them as references.

    What a place was given by somebody else, such as a plain variable of a task definition, may be one of ours: masked.

    Raises Invalid where there is nothing to show, StepError where the place cannot be asked.
    """
    places = Placement.objects.filter(environment=environment, service__slug=service)
    placement = places.select_related("environment", "service").first()
    if placement is None:
        raise Invalid(f"{service} has no place in {environment.slug}.")
    driver: object = DRIVERS.get(environment.driver)
    if not isinstance(driver, Exportable):
        raise Invalid(f"The driver {environment.driver} applies no files.")
    release = _release(placement, version)
    found = driver.documents(target_of(placement), software_of(release), referenced_variables(environment))
    masker = Masker(value for value in secrets_of(environment) if len(value) >= SHORTEST)
    return [Document(one.name, masker.mask(one.text)) for one in found]


def _release(placement: Placement, version: str) -> Release:
    if not version:
        return deployed_release(placement)
    found = Release.objects.filter(service=placement.service, version=version).first()
    if found is None:
        raise Invalid(f"There is no release {version} of {placement.service}. Add it first.")
    return found


def deployed_release(placement: Placement) -> Release:
    """What was deployed there last. Raises Invalid where nobody knows it."""
    there = releases_with(placement.service_id, [placement.digest], [placement.version])
    deployed = there.first() if placement.digest else None
    if deployed is None:
        raise Invalid(f"Nothing that is known was deployed to {placement.environment.slug} yet. Name a version.")
    return deployed


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("environment")
    parser.add_argument("service")
    parser.add_argument("version", nargs="?", default="", help="what was deployed last, if it is left out")


def _text(options: dict[str, Any]) -> str:
    environment = Environment.objects.filter(slug=options["environment"]).first()
    if environment is None:
        raise Invalid(f"There is no environment {options['environment']}.")
    documents = documents_of(environment, options["service"], options["version"])
    if len(documents) == 1:
        return documents[0].text
    return "".join(f"---\n# {one.name}\n{one.text}" for one in documents)


MANIFESTS = Export("manifests", "what the driver would apply for a release", _arguments, _text)
