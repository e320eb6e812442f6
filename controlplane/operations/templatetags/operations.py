"""How templates show operations; the words are those of `presentation.py`."""

from django import template
from django.utils.safestring import SafeString

from controlplane.operations.models import Operation
from controlplane.operations.presentation import ran_for, tone_of, word_of
from controlplane.operations.registry import kind_of
from controlplane.web.templatetags.ui import state

register = template.Library()


@register.simple_tag
def operation_state(operation: Operation) -> SafeString:
    """A shape, a colour and a word: `{% operation_state operation %}`."""
    return state(tone_of(operation), word_of(operation))


@register.filter
def ran(operation: Operation) -> SafeString | str:
    """How long an operation ran, or has run so far; – for one that never started."""
    return ran_for(operation) or "–"


@register.simple_tag
def facts_template(operation: Operation) -> str:
    """The partial in which the operation's kind says what it is about; empty when it has none."""
    return kind_of(operation).facts_template
