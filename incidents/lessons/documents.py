"""Every move of a post-mortem: drafted, written, reviewed, published. One function, one transaction each.

    draft → in review → published          (back to draft from either)

The text is in versions that never change. It is published with the approval of its last version by somebody who did
not write that version; whoever writes on after that takes it back to draft.
"""

from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, Who, record
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.events import storable
from controlplane.operations.transitions import said
from controlplane.web.tones import Tone
from incidents import timeline
from incidents.lessons.draft import draft
from incidents.lessons.facts import gather
from incidents.lessons.telling import tell_person
from incidents.models import Incident, Postmortem, PostmortemVersion, Review
from incidents.timeline import Kind, NewEntry

CLOCK = SYSTEM("clock")
State = Postmortem.State
# Of a text, in characters: some twenty printed pages.
LONGEST = 40_000
# The clock drafts what was resolved so lately; what it missed for longer, somebody drafts from the page.
LATELY = timedelta(days=3)
AT_ONCE = 50

ALLOWED: dict[str, tuple[str, ...]] = {
    State.DRAFT: (State.REVIEW,),
    State.REVIEW: (State.PUBLISHED, State.DRAFT),
    State.PUBLISHED: (State.DRAFT,),
}


# --- The draft ----------------------------------------------------------------------------------------


def draft_due() -> int:
    """Draft the post-mortems of what has just been resolved; the clock calls it. Returns how many."""
    have = Postmortem.objects.filter(incident=OuterRef("pk"))
    rows = Incident.objects.filter(state=Incident.State.RESOLVED, resolved_at__gt=Now() - LATELY).exclude(Exists(have))
    waiting = list(rows.order_by("resolved_at").values_list("pk", flat=True)[:AT_ONCE])
    return sum(_draft_unless_held(pk) for pk in waiting)


def _draft_unless_held(incident_id: int) -> bool:
    with transaction.atomic():
        rows = Incident.objects.defer("search").select_for_update(skip_locked=True)
        incident = rows.filter(pk=incident_id, state=Incident.State.RESOLVED).first()
        if incident is None or Postmortem.objects.filter(incident=incident).exists():
            return False  # another clock has it
        _write_draft(incident, CLOCK)
    return True


def draft_now(incident_id: int, who: Who) -> Postmortem:
    """Draft it because somebody asks. Raises Conflict while it is not resolved, or when there is one."""
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        if not incident.is_resolved:
            raise Conflict("The post-mortem comes after the resolution: resolve the incident first.")
        if Postmortem.objects.filter(incident=incident).exists():
            raise Conflict("There is a post-mortem already.")
        return _write_draft(incident, who)


def _write_draft(incident: Incident, who: Who) -> Postmortem:
    postmortem = Postmortem.objects.create(incident=incident, version=1)
    body = draft(gather(incident))[:LONGEST]
    PostmortemVersion.objects.create(postmortem=postmortem, number=1, body=body, author_name="the control plane")
    _tell(incident, who, "Post-mortem drafted from the timeline", Tone.BUSY, version=1)
    record(who, "postmortem.drafted", str(postmortem), scopes=incident.environments)
    return postmortem


# --- Writing ------------------------------------------------------------------------------------------


def save(incident_id: int, actor: Actor, body: str, version: int) -> Postmortem:
    """Write the next version. version: the one that was read.

    Raises Conflict when somebody has written one since, Invalid for a text that is empty, too long or no other.
    """
    body = _text(body)
    with transaction.atomic():
        incident, postmortem = _locked(incident_id)
        last = _last(postmortem)
        if version != postmortem.version:
            raise Conflict(
                f"{last.author_name} saved version {last.number} while you wrote on version {version}. Nothing of yours"
                " is lost: it is in the box below. Bring the two together, then save again."
            )
        if body == last.body:
            raise Invalid("Nothing is different from the last version.")
        number = version + 1
        PostmortemVersion.objects.create(
            postmortem=postmortem, number=number, body=body, author=actor.person, author_name=actor.who.name
        )
        was_published = postmortem.state == State.PUBLISHED
        postmortem.version = number
        postmortem.state = State.DRAFT if was_published else State(postmortem.state)
        postmortem.published_at = None if was_published else postmortem.published_at
        postmortem.save(update_fields=["version", "state", "published_at"])
        again = "; it was published, and is a draft again" if was_published else ""
        _tell(incident, actor.who, f"Post-mortem: version {number} written{again}", version=number)
        record(actor.who, "postmortem.saved", str(postmortem), scopes=incident.environments, data={"version": number})
    return postmortem


def _text(body: str) -> str:
    body = storable(body.replace("\r\n", "\n").strip())
    if not body:
        raise Invalid("Write something: an empty post-mortem teaches nobody.")
    if len(body) > LONGEST:
        raise Invalid(f"Shorten it to {LONGEST} characters; these are {len(body)}.")
    return body + "\n"


# --- States -------------------------------------------------------------------------------------------


def to_state(incident_id: int, actor: Actor, state: str) -> Postmortem:
    """Hand it in for review, publish it, or take it back. Raises Conflict or Refused, and Invalid for no state."""
    if state not in State.values:
        raise Invalid(f"A post-mortem is {', '.join(State.labels)}; not “{state[:30]}”.")
    with transaction.atomic():
        incident, postmortem = _locked(incident_id)
        if state not in ALLOWED[postmortem.state]:
            raise Conflict(
                f"It is {postmortem.get_state_display()}: from there it does not become {State(state).label}."
            )
        if state == State.PUBLISHED:
            _check_approved(postmortem)
        postmortem.state = State(state)
        postmortem.save(update_fields=["state"])
        at = Now() if state == State.PUBLISHED else None
        Postmortem.objects.filter(pk=postmortem.pk).update(published_at=at)
        word = State(state).label
        _tell(incident, actor.who, f"Post-mortem: {word} (version {postmortem.version})",
              Tone.OK if state == State.PUBLISHED else Tone.WAIT, state=state)  # fmt: skip
        record(actor.who, "postmortem.state", str(postmortem), scopes=incident.environments, data={"state": state})
    return postmortem


def problem_with_publishing(postmortem: Postmortem) -> str:
    """Why it cannot be published yet; "" when it can."""
    last = _last(postmortem)
    approvals = Review.objects.filter(
        postmortem=postmortem, state=Review.State.APPROVED, version=postmortem.version, person__is_active=True
    )
    if last.author_id is not None:
        approvals = approvals.exclude(person_id=last.author_id)
    if approvals.exists():
        return ""
    return (
        f"Nobody has approved version {postmortem.version} yet. Somebody other than {last.author_name}, who wrote it,"
        " has to read and approve it."
    )


def _check_approved(postmortem: Postmortem) -> None:
    if problem := problem_with_publishing(postmortem):
        raise Conflict(problem)


# --- Reviews ------------------------------------------------------------------------------------------


def ask(incident_id: int, actor: Actor, person: Person) -> Review:
    """Ask somebody to read it, by e-mail where there is one. Raises Conflict when they have been asked already."""
    with transaction.atomic():
        incident, postmortem = _locked(incident_id)
        review = Review.objects.filter(postmortem=postmortem, person=person).first()
        if review is not None and review.state == Review.State.ASKED:
            raise Conflict(f"{person.title_name} has been asked already.")
        if review is not None and review.version == postmortem.version:
            raise Conflict(f"{person.title_name} has spoken about version {review.version} already.")
        if _last(postmortem).author_id == person.pk:
            raise Refused(f"{person.title_name} wrote the last version; ask somebody else.")
        review = _set(postmortem, person, Review.State.ASKED, "")
        path = reverse("postmortem", args=[incident.pk])
        words = f"{actor.who.name} asks you to review the post-mortem, version {postmortem.version}"
        tell_person(incident, person, f"review-{review.pk}-{postmortem.version}", words, path)
        _tell(incident, actor.who, f"Post-mortem: {person.title_name} is asked to review it", Tone.WAIT)
        record(actor.who, "postmortem.review_asked", str(postmortem), scopes=incident.environments,
               data={"person": person.title_name})  # fmt: skip
    return review


def review(incident_id: int, actor: Actor, state: str, comment: str, version: int) -> Review:
    """A reviewer's word on the version they read: approved, or wants changes, with the comment.

    Raises Refused for the author of that version, Conflict when there is a newer one, Invalid without a comment
    on what should change.
    """
    if state not in (Review.State.APPROVED, Review.State.CHANGES):
        raise Invalid("A reviewer approves, or wants changes.")
    wants = state == Review.State.CHANGES
    comment = said(comment, "Say what should change." if wants else "")
    with transaction.atomic():
        incident, postmortem = _locked(incident_id)
        last = _last(postmortem)
        if version != postmortem.version:
            raise Conflict(f"{last.author_name} has written version {last.number} since: read that one first.")
        if postmortem.state != State.REVIEW:
            raise Conflict(f"It is {postmortem.get_state_display()}; hand it in for review first.")
        if last.author_id == actor.person.pk and not wants:
            raise Refused("You wrote this version; somebody else has to approve it.")
        found = _set(postmortem, actor.person, Review.State(state), comment)
        words = "wants changes" if wants else "approved"
        because = f": {comment}" if comment else ""
        text = f"Post-mortem: {actor.who.name} {words} (version {version}){because}"
        _tell(incident, actor.who, text, Tone.WAIT if wants else Tone.OK, version=version)
        record(actor.who, "postmortem.reviewed", str(postmortem), scopes=incident.environments, reason=comment,
               data={"state": state, "version": version})  # fmt: skip
    return found


def _set(postmortem: Postmortem, person: Person, state: Review.State, comment: str) -> Review:
    return Review.objects.update_or_create(
        postmortem=postmortem, person=person,
        defaults={"person_name": person.title_name, "state": state, "comment": comment, "at": Now(),
                  "version": postmortem.version},
    )[0]  # fmt: skip


# --- Together -----------------------------------------------------------------------------------------


def _locked(incident_id: int) -> tuple[Incident, Postmortem]:
    """The incident, whose lock is that of its post-mortem too."""
    incident = timeline.locked(incident_id)
    postmortem = Postmortem.objects.filter(incident=incident).first()
    if postmortem is None:
        raise Conflict("There is no post-mortem yet.")
    return incident, postmortem


def _last(postmortem: Postmortem) -> PostmortemVersion:
    return PostmortemVersion.objects.get(postmortem=postmortem, number=postmortem.version)


def _tell(incident: Incident, who: Who, text: str, tone: Tone = Tone.IDLE, **data: object) -> None:
    timeline.append(incident, who, NewEntry(Kind.POST_MORTEM, text, tone, data=data))
