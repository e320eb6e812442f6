"""Running an operation: its steps one after the other, each by observe → act → verify.

For each step, in this order, and each written down before the next begins:

1. the intent: state running, the attempt's number, the stored deadline;
2. observe: is the effect there already? After a crash this decides, never a guess;
3. act, if it is not there; 4. verify, until it is good, has failed, or the deadline passes;
5. the end: succeeded, failed (then its recovery steps run), or unknown (then a person is asked).

Where a worker stands is in the rows alone, so any worker can go on after any crash: a step found running is
observed, a failed one is put back, and so on from there.
"""

import logging
import traceback
from typing import Any

from django.db import InterfaceError, OperationalError, connections, transaction

from controlplane.audit.record import SYSTEM
from controlplane.operations.boundaries import reached
from controlplane.operations.claims import Claim, claim
from controlplane.operations.context import Context
from controlplane.operations.errors import Conflict, LeaseLost, StepError, Stopped, Unknown
from controlplane.operations.events import LogWriter, NewEvent, write_step
from controlplane.operations.lease import Lease
from controlplane.operations.models import Event, Operation, Step
from controlplane.operations.plans import Retry
from controlplane.operations.registry import Seen, StepFunction, Verdict, kind_of, passed, step_function
from controlplane.operations.states import EXECUTING, STEP_FINISHED, State, StepState
from controlplane.operations.transitions import move
from controlplane.operations.world import pause

logger = logging.getLogger(__name__)
DATABASE_AWAY = (OperationalError, InterfaceError)


def run(operation_id: int, worker: str) -> bool:
    """Run the operation as far as it goes, if it is free; says whether this worker held it.

    A lost lease or a lost database is no error here: whoever claims it next goes on from what is written.
    """
    try:
        claimed = claim(operation_id, worker)
        if claimed is None:
            return False
        reached("claimed", operation_id)
        Execution(claimed).run()
    except (LeaseLost, *DATABASE_AWAY) as error:
        logger.warning("operation %s: let go: %s", operation_id, error)
        connections.close_all()
    return True


class Execution:
    """One worker's turn at one operation."""

    def __init__(self, claimed: Claim) -> None:
        self.claim = claimed
        self.operation = Operation.objects.get(pk=claimed.operation_id)
        self.log = LogWriter(claimed.operation_id, claimed.fence, [])
        self.lease = Lease(claimed, self.log)

    def run(self) -> None:
        """Step after step, until the operation has ended or needs a person."""
        with self.lease:
            steps = list(self.operation.steps.all())
            for step in steps:
                step.operation = self.operation  # one plan in memory, not one a step
            try:
                # The lease is being renewed already, however long it takes to fetch them.
                self.log.mask(kind_of(self.operation).secrets(self.operation))
                self._run(steps)
            except (LeaseLost, *DATABASE_AWAY):
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, a person hears of it
                self._be_in_doubt(steps, error)

    def _run(self, steps: list[Step]) -> None:
        main = [step for step in steps if step.phase == Step.Phase.MAIN]
        for step in main:
            if step.state in STEP_FINISHED:
                continue
            if step.is_safe_point and not self._begin(step, main):
                return
            if step.state != StepState.FAILED:
                self._run_step(step)
            if step.state == StepState.UNKNOWN:
                self._ask_a_person(step)
                return
            if step.state == StepState.FAILED:
                self._put_back(step, {s.key: s for s in steps}, main)
                return
        self._finish(State.SUCCEEDED, "succeeded")

    def _be_in_doubt(self, steps: list[Step], error: Exception) -> None:
        """Something around the steps is broken: the step that would be next waits until a person has looked.

        To ask, to stop and to end takes nothing of what may be broken.
        """
        self._tell_the_log("", error)
        main = [step for step in steps if step.phase == Step.Phase.MAIN]
        failed = next((step for step in main if step.state == StepState.FAILED), None)
        by_key = {step.key: step for step in steps}
        order = [by_key[key] for key in failed.spec["on_failure"]] if failed else main
        step = next((step for step in order if step.state not in STEP_FINISHED), None)
        if step is None:
            self._run(steps)
        elif step.state == StepState.UNKNOWN:
            self._ask_a_person(step)
        elif not (step.is_safe_point and self._stop_here(step, main)):
            self._write_end(step, StepState.UNKNOWN, self.log.masked(f"unexpected {type(error).__name__}: {error}"))
            self._ask_a_person(step)

    def _tell_the_log(self, key: str, error: Exception) -> None:
        """The process's own log, for whoever mends it; a library's message may quote a secret."""
        story = self.log.masked("".join(traceback.format_exception(error)))
        logger.error("operation %s: step %s: %s", self.operation.pk, key, story)

    # --- one step ---------------------------------------------------------------------------------

    def _run_step(self, step: Step) -> None:
        spec = step.spec
        context = Context(self.operation, step, self.lease, self.log)
        retry = Retry(**spec["retry"])
        try:
            function = step_function(spec["function"])
            while step.state in (StepState.PENDING, StepState.RUNNING):
                if step.state == StepState.PENDING:
                    self._write_intent(step)
                if spec.get("interruptible"):
                    self.lease.renew()  # whoever asked to stop a moment ago is heard before it acts
                reached("intent_written", self.operation.pk, step.key)
                try:
                    self._attempt(function, context, spec["arguments"])
                    self._write_end(step, StepState.SUCCEEDED)
                except StepError as error:
                    if error.permanent or step.attempt >= retry.attempts:
                        end = StepState.UNKNOWN if spec.get("asks") else StepState.FAILED
                        self._write_end(step, end, self.log.masked(str(error)))
                    else:
                        self._try_again(step, context, retry, str(error))
        except Unknown as doubt:
            self._write_end(step, StepState.UNKNOWN, self.log.masked(str(doubt)))
        except Stopped:
            self._write_end(step, StepState.FAILED, self._who_stopped_it())
        except (LeaseLost, *DATABASE_AWAY):
            raise
        except Exception as error:  # noqa: BLE001 - a bug in a step: what it did is not known, so nobody guesses
            self._tell_the_log(step.key, error)
            words = f"unexpected {type(error).__name__}: {error}"
            self._write_end(step, StepState.UNKNOWN, self.log.masked(words))

    def _attempt(self, function: StepFunction, context: Context, arguments: dict[str, Any]) -> None:
        seen = function.observe(context, **arguments) if function.observe else Seen.NOT_DONE
        if seen is Seen.NOT_DONE:
            self.log.flush()
            context.check()
            function.act(context, **arguments)
            reached("effect_done", self.operation.pk, context.step_key)
        verdict = self._verify(function, context, arguments)
        if verdict.outcome == "failed":
            raise StepError(verdict.reason, permanent=True)
        reached("verified", self.operation.pk, context.step_key)

    def _verify(self, function: StepFunction, context: Context, arguments: dict[str, Any]) -> Verdict:
        if function.verify is None:
            return passed()
        while True:
            context.check()
            verdict = function.verify(context, **arguments)
            if verdict.outcome != "pending":
                return verdict
            left = context.remaining()
            if left <= 0:
                raise StepError(f"not within its time: {verdict.reason}", permanent=True)
            context.wait(min(function.poll, left))

    def _try_again(self, step: Step, context: Context, retry: Retry, error: str) -> None:
        delay = retry.delay(step.attempt)
        words = self.log.masked(f"{error}, again in {delay:g} s ({step.attempt} of {retry.attempts})")
        self._write(step, StepState.PENDING, NewEvent(Event.Kind.WARNING, words, step.key))
        context.wait(delay)

    # --- what is written --------------------------------------------------------------------------

    def _write_intent(self, step: Step, *, yields: bool = False) -> bool:
        spec = step.spec
        again = f" (attempt {step.attempt + 1})" if step.attempt else ""
        event = NewEvent(Event.Kind.STEP, f"{spec['title']}{again}", step.key)
        return self._write(step, StepState.RUNNING, event, timeout=spec["timeout"], yields=yields)

    def _write_end(self, step: Step, state: StepState, error: str = "") -> None:
        kind = Event.Kind.STEP if state == StepState.SUCCEEDED else Event.Kind.ERROR
        words = f"{step.spec['title']}: {state.label}" + (f": {error}" if error else "")
        self._write(step, state, NewEvent(kind, words, step.key), error=error)
        reached("state_written", self.operation.pk, step.key)

    def _write(
        self, step: Step, state: StepState, event: NewEvent, *, error: str = "", timeout: float | None = None,
        yields: bool = False,
    ) -> bool:  # fmt: skip
        """What was said so far, then the step's new state with its event, under the fence. See `write_step`."""
        self.log.flush()
        return write_step(
            step, state, event, fence=self.claim.fence, error=error, timeout=timeout, yields=yields,
            goes_on=kind_of(self.operation).takes_away,
        )  # fmt: skip

    # --- how it ends ------------------------------------------------------------------------------

    def _begin(self, step: Step, main: list[Step]) -> bool:
        """Write down that the step at a safe point begins; False when this worker has to leave the operation instead.

        Whoever stops it, or the world, after it was asked here and before that is written, is heard all the same.
        """
        while not self._stop_here(step, main):
            step_function(step.spec["function"])  # what nobody knows does not begin
            if self._write_intent(step, yields=True):
                return True
        return False

    def _stop_here(self, step: Step, main: list[Step]) -> bool:
        """Whether this worker has to leave it, ended or standing still, before the step."""
        where = step.spec["group"] or step.spec["title"]
        self.lease.renew()
        held = not kind_of(self.operation).takes_away
        while held and self.lease.world_stopped and not self.lease.cancel_requested:
            self.log.flush()
            if pause(self.operation.pk, self.claim.fence, where):
                return True
            self.lease.renew()  # released, or somebody asked to stop it, a moment ago
        if not self.lease.cancel_requested:
            return False
        self._finish(State.CANCELLED, _untouched(self._who_stopped_it(f" before {where}"), main))
        return True

    def _who_stopped_it(self, where: str = "") -> str:
        self.operation.refresh_from_db(fields=["cancel_requested_by_name", "cancel_reason"])
        return f"stopped by {self.operation.cancel_requested_by_name}{where}: {self.operation.cancel_reason}"

    def _put_back(self, culprit: Step, steps: dict[str, Step], main: list[Step]) -> None:
        recovery = [steps[key] for key in culprit.spec["on_failure"]]
        for step in recovery:
            if step.state not in STEP_FINISHED:
                self._run_step(step)
            if step.state == StepState.FAILED:
                # Nothing puts back what could not be put back: a person decides.
                words = f"{step.spec['title']}: could not be put back"
                self._write(step, StepState.UNKNOWN, NewEvent(Event.Kind.ERROR, words, step.key), error=step.error)
            if step.state == StepState.UNKNOWN:
                self._ask_a_person(step)
                return
        words = f"{culprit.spec['title']}: {culprit.error}"
        left_out = [step.spec["title"] for step in recovery if step.state == StepState.SKIPPED]
        if left_out:
            words = f"{words.rstrip('.')}. Not all of it was put back; left out: {', '.join(left_out)}"
        elif recovery:
            words = f"put back: {words}"
        self._finish(self._end_after(culprit), _untouched(words, main))

    def _end_after(self, culprit: Step) -> State:
        """A step that was stopped in the middle, as somebody asked, did not fail."""
        if not culprit.spec.get("interruptible"):
            return State.FAILED
        self.lease.renew()
        return State.CANCELLED if self.lease.cancel_requested else State.FAILED

    def _ask_a_person(self, step: Step) -> None:
        words = f"{step.spec['title']}: {step.error} A person has to say what is true."
        self._move(State.NEEDS_OPERATOR, words, lease_until=None, worker="")

    def _finish(self, state: State, words: str) -> None:
        self._move(state, words)
        reached("finished", self.operation.pk)

    def _move(self, to: State, words: str, **fields: Any) -> None:
        self.log.flush()
        who = SYSTEM(f"worker {self.claim.worker}")
        try:
            with transaction.atomic():
                move(
                    self.operation, to, came_from=EXECUTING, who=who, text=words,
                    held_fence=self.claim.fence, outcome="" if to == State.SUCCEEDED else words, **fields,
                )  # fmt: skip
        except Conflict as conflict:
            raise LeaseLost(str(conflict)) from conflict


def _untouched(words: str, main: list[Step]) -> str:
    """Say besides which groups of steps were never begun."""
    begun = {step.spec["group"] for step in main if step.state != StepState.PENDING or step.attempt}
    names = [step.spec["group"] for step in main if step.spec["group"] and step.spec["group"] not in begun]
    never = list(dict.fromkeys(names))
    return f"{words.rstrip('.')}. Never touched: {', '.join(never)}." if never else words
