"""Rows of other tables, read along with a row in its own query: each question to the database costs a round trip.

policies = Policy.objects.annotate(wrong=rows(BackupAlert.objects.filter(policy=OuterRef("pk"))))
made_of(BackupAlert, policies[0].wrong)
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from django.contrib.postgres.expressions import ArraySubquery
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model, QuerySet
from django.db.models.functions import JSONObject

Row = TypeVar("Row", bound=Model)


def rows(wanted: QuerySet[Any]) -> ArraySubquery:
    """These rows as one more column; `wanted` names the outer row by OuterRef, and should be few."""
    columns = {field.attname: field.attname for field in wanted.model._meta.concrete_fields}
    return ArraySubquery(wanted.values(row=JSONObject(**columns)))


def made_of(model: type[Row], column: Iterable[Mapping[str, Any]]) -> list[Row]:
    """What such a column holds, as instances in the same order."""
    fields = model._meta.concrete_fields
    names = [field.attname for field in fields]
    return [
        model.from_db(DEFAULT_DB_ALIAS, names, [field.to_python(row[field.attname]) for field in fields])
        for row in column
    ]
