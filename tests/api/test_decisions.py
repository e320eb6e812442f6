"""Approving, rejecting, stopping and answering: the same rules as on the pages, as statuses."""

from typing import Any

import pytest

from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry
from controlplane.operations import engine
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State, StepState
from tests.api.conftest import Caller, Calls, assert_problem
from tests.estate import Estate

OTHER = "0" * 64


@pytest.fixture
def asked(alice: Person, estate: Estate, calls: Calls) -> dict[str, Any]:
    """Alice's deployment to production, waiting for its approval."""
    answer: dict[str, Any] = calls(alice).deploy().json()
    return answer


def approve(caller: Caller, asked: dict[str, Any], **change: Any) -> Any:
    body = {"plan_digest": asked["plan_digest"], "comment": "looks right", **change}
    return caller.post(f"operations/{asked['operation']}/approvals", body)


def state() -> str:
    return Operation.objects.get().state


class TestApproval:
    def test_it_lets_the_operation_go(self, asked: dict[str, Any], bob: Person, calls: Calls) -> None:
        answer = approve(calls(bob), asked)
        assert answer.status_code == 200
        told = answer.json()
        assert told["state"] == "queued" == state()
        assert [(one["person"], one["decision"], one["comment"]) for one in told["approvals"]] == [
            ("Bob", "approved", "looks right")
        ]
        assert told["approvals"][0]["plan_digest"] == asked["plan_digest"]

    def test_the_comment_may_be_left_out(self, asked: dict[str, Any], bob: Person, calls: Calls) -> None:
        answer = calls(bob).post(f"operations/{asked['operation']}/approvals", {"plan_digest": asked["plan_digest"]})
        assert answer.status_code == 200

    def test_never_by_who_asked(self, asked: dict[str, Any], alice: Person, calls: Calls) -> None:
        alice.grants.update(role=Role.ADMIN)
        assert_problem(approve(calls(alice), asked), 403, "somebody else")
        assert state() == State.AWAITING_APPROVAL
        denied = Entry.objects.get(data__denied=True)
        assert (denied.actor, denied.action, denied.scopes) == ("Alice", "operation.approve", ["production"])

    def test_never_without_the_role(self, asked: dict[str, Any], dana: Person, bob: Person, calls: Calls) -> None:
        assert_problem(approve(calls(dana), asked), 403, "approver")
        assert_problem(approve(calls(bob, Role.OPERATOR), asked), 403, "approver")
        assert state() == State.AWAITING_APPROVAL

    def test_a_stale_digest_is_409(self, asked: dict[str, Any], bob: Person, calls: Calls) -> None:
        assert_problem(approve(calls(bob), asked, plan_digest=OTHER), 409, "Read it again")
        assert state() == State.AWAITING_APPROVAL

    def test_a_second_time_is_409(self, asked: dict[str, Any], bob: Person, calls: Calls) -> None:
        approve(calls(bob), asked)
        assert_problem(approve(calls(bob), asked), 409)

    @pytest.mark.parametrize("digest", ["", "x" * 64, "A" * 64, "0" * 63, None, 5])
    def test_a_digest_looks_like_one(self, asked: dict[str, Any], bob: Person, calls: Calls, digest: Any) -> None:
        assert_problem(approve(calls(bob), asked, plan_digest=digest), 422, "body.plan_digest")


class TestRejection:
    @pytest.mark.parametrize("named", [True, False])
    def test_one_no_is_enough(self, asked: dict[str, Any], bob: Person, calls: Calls, named: bool) -> None:
        body = {"comment": "not today"} | ({"plan_digest": asked["plan_digest"]} if named else {})
        answer = calls(bob).post(f"operations/{asked['operation']}/rejection", body)
        assert answer.status_code == 200
        told = answer.json()
        assert (told["state"], told["approvals"][0]["decision"]) == ("rejected", "rejected")
        assert "not today" in told["error"]

    def test_another_plan_is_409(self, asked: dict[str, Any], bob: Person, calls: Calls) -> None:
        body = {"comment": "no", "plan_digest": OTHER}
        assert_problem(calls(bob).post(f"operations/{asked['operation']}/rejection", body), 409)

    def test_the_reason_is_asked_for(self, asked: dict[str, Any], bob: Person, calls: Calls) -> None:
        path = f"operations/{asked['operation']}/rejection"
        assert_problem(calls(bob).post(path, {}), 422, "body.comment")
        assert_problem(calls(bob).post(path, {"comment": " "}), 422, "Say why")

    def test_not_by_a_viewer(self, asked: dict[str, Any], dana: Person, calls: Calls) -> None:
        assert_problem(calls(dana).post(f"operations/{asked['operation']}/rejection", {"comment": "no"}), 403)


class TestCancel:
    def test_before_it_starts(self, asked: dict[str, Any], alice: Person, calls: Calls) -> None:
        answer = calls(alice).post(f"operations/{asked['operation']}/cancel", {"reason": "wrong day"})
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert "wrong day" in answer.json()["outcome"]
        assert answer.json()["error"] == ""

    def test_what_has_ended_is_409(self, asked: dict[str, Any], alice: Person, calls: Calls) -> None:
        path = f"operations/{asked['operation']}/cancel"
        calls(alice).post(path, {"reason": "wrong day"})
        assert_problem(calls(alice).post(path, {"reason": "again"}), 409, "cancelled")

    def test_not_by_a_viewer(self, asked: dict[str, Any], dana: Person, calls: Calls) -> None:
        answer = calls(dana).post(f"operations/{asked['operation']}/cancel", {"reason": "x"})
        assert_problem(answer, 403, "operator")
        assert state() == State.AWAITING_APPROVAL


class TestResolution:
    KEY = "production-1-swap"

    @pytest.fixture
    def doubtful(self, asked: dict[str, Any]) -> str:
        """The path to answer at: nobody knows how its first step ended."""
        Operation.objects.update(state=State.NEEDS_OPERATOR, outcome="Did it happen?")
        Step.objects.filter(key=self.KEY).update(state=StepState.UNKNOWN)
        return f"operations/{asked['operation']}/resolution"

    @pytest.mark.parametrize(
        ("answer", "step"), [("retry", "pending"), ("skip", "skipped"), ("done", "succeeded"), ("roll_back", "failed")]
    )
    def test_the_four_answers(self, doubtful: str, alice: Person, calls: Calls, answer: str, step: str) -> None:
        told = calls(alice).post(doubtful, {"step": self.KEY, "answer": answer, "comment": "looked"})
        assert told.status_code == 200, told.content
        assert told.json()["state"] == "running"
        assert told.json()["steps"][0] == {"key": self.KEY, "title": "swap production-1", "state": step}

    def test_the_doubt_is_told(self, doubtful: str, alice: Person, calls: Calls) -> None:
        assert calls(alice).get(doubtful.removesuffix("/resolution")).json()["error"] == "Did it happen?"

    def test_another_answer_or_step_is_422(self, doubtful: str, alice: Person, calls: Calls) -> None:
        assert_problem(calls(alice).post(doubtful, {"step": self.KEY, "answer": "maybe"}), 422, "body.answer")
        assert_problem(calls(alice).post(doubtful, {"step": "nothing", "answer": "done"}), 422, "nothing")

    def test_without_a_doubt_it_is_409(self, asked: dict[str, Any], alice: Person, calls: Calls) -> None:
        path = f"operations/{asked['operation']}/resolution"
        assert_problem(calls(alice).post(path, {"step": self.KEY, "answer": "done"}), 409)

    def test_not_by_a_viewer(self, doubtful: str, dana: Person, calls: Calls) -> None:
        assert_problem(calls(dana).post(doubtful, {"step": self.KEY, "answer": "done"}), 403)


@pytest.mark.django_db(transaction=True)
def test_the_end_is_told_with_its_steps(asked: dict[str, Any], alice: Person, bob: Person, calls: Calls) -> None:
    approve(calls(bob), asked)
    engine.run(asked["operation"], "w1")
    told = calls(alice).get(f"operations/{asked['operation']}").json()
    assert (told["state"], told["error"]) == ("succeeded", "")
    assert [step["state"] for step in told["steps"]] == ["succeeded"] * 3


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_told_with_what_put_it_back(alice: Person, estate: Estate, calls: Calls) -> None:
    number = calls(alice).deploy("1.6.0", "staging").json()["operation"]
    engine.run(number, "w1")
    told = calls(alice).get(f"operations/{number}").json()
    assert told["state"] == "failed"
    assert "503" in told["error"]
    assert {step["key"]: step["state"] for step in told["steps"]} == {
        "staging-1-swap": "failed", "staging-1-back": "succeeded",
    }  # fmt: skip
