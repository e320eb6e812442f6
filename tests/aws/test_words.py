"""What AWS or the way to it refuses is said in words: what, where, and who can change it; passing or for good."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.masking import MASK
from environments.aws import READ_ATTEMPTS, Account, ecs, in_words, rds
from environments.drivers.ecs.service import EcsService
from tests.aws.company import SECRET_KEY
from tests.aws.layer import LOST_BEFORE, SLOW, Fault, Layer, broken, denied, refused, throttled

pytest_plugins = ["tests.aws.fixtures"]

ACCESS, SECRET = "env:TEST_AWS_ACCESS_KEY", "env:TEST_AWS_SECRET_KEY"
REFUSED = {
    "throttled": (throttled(), False, "AWS slows us down (ThrottlingException) at ecs:DescribeServices on service api"),
    "a broken proxy": (broken(), False, "AWS has trouble of its own (503"),
    "no answer": (LOST_BEFORE, False, "No answer to ecs:DescribeServices on service api"),
    "late": (SLOW, False, "No answer to ecs:DescribeServices on service api"),
    "denied": (
        denied("ecs:DescribeServices", "arn:aws:ecs:us-east-1:123456789012:service/c/api"),
        True,
        "AWS does not allow ecs:DescribeServices on arn:aws:ecs:us-east-1:123456789012:service/c/api. "
        "Somebody who manages IAM has to add ecs:DescribeServices",
    ),
    "expired": (refused("ExpiredTokenException", "The security token expired"), True, "AWS credentials have expired"),
    "unknown key": (refused("UnrecognizedClientException", "invalid"), True, "AWS does not know these credentials"),
    "wrong clock": (refused("RequestTimeTooSkewed", "too skewed"), True, "Set this machine's clock"),
    "no cluster": (refused("ClusterNotFoundException", "Cluster not found."), True, "There is no active service api"),
    "anything else": (
        refused("InvalidParameterException", "Nonsense."),
        True,
        "(InvalidParameterException): Nonsense.",
    ),
}


@pytest.fixture
def account(aws: Layer) -> Account:
    """Asks the simulator."""
    return Account("us-east-1", aws.url, ACCESS, SECRET)


def ask(account: Account) -> StepError:
    """What asking comes to."""
    with pytest.raises(StepError) as raised:
        EcsService(account, "c", "api", "").state()
    assert SECRET_KEY not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(("fault", "permanent", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal(aws: Layer, account: Account, fault: Fault, permanent: bool, words: str) -> None:
    aws.will("DescribeServices", *[fault] * READ_ATTEMPTS)
    error = ask(replace(account, answer_seconds=0.2) if fault is SLOW else account)
    assert words in str(error)
    assert error.permanent is permanent


def test_reading_is_tried_again_before_anybody_hears_of_it(aws: Layer, account: Account) -> None:
    aws.will("DescribeServices", *[LOST_BEFORE] * (READ_ATTEMPTS - 1))
    assert "There is no active service api in cluster c (us-east-1) (ClusterNotFoundException)" in str(ask(account))
    assert aws.asked["DescribeServices"] == READ_ATTEMPTS


def test_a_missing_service_names_the_settings_to_look_at(aws: Layer, account: Account) -> None:
    ecs(account, 1).create_cluster(clusterName="c")
    error = ask(account)
    assert str(error) == (
        "There is no active service api in cluster c (us-east-1). "
        "Check region, cluster and service in the environment's driver settings."
    )
    assert error.permanent


def test_nobody_listens(account: Account) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    error = ask(replace(account, endpoint_url=url))
    assert str(error).startswith("AWS cannot be reached for ecs:DescribeServices on service api")
    assert not error.permanent


class TestCredentials:
    """Whose they are, and what is wrong with them."""

    def test_none(self, aws: Layer) -> None:
        error = ask(Account("us-east-1", aws.url))
        assert "This worker has no AWS credentials" in str(error) and "access_key and secret_key" in str(error)
        assert error.permanent

    def test_from_the_process(self, aws: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        assert "ClusterNotFoundException" in str(ask(Account("us-east-1", aws.url)))

    def test_renewed_ones_of_the_process_are_taken_up(self, aws: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "no AWS credentials" in str(ask(Account("us-east-1", aws.url)))
        self.test_from_the_process(aws, monkeypatch)

    def test_only_one_of_the_two(self, aws: Layer) -> None:
        error = ask(Account("us-east-1", aws.url, ACCESS))
        assert str(error) == "access_key and secret_key belong together: give both or neither."

    def test_a_reference_that_leads_nowhere(self, aws: Layer) -> None:
        error = ask(Account("us-east-1", aws.url, access_key="env:NOT_THERE", secret_key="env:NOT_THERE"))
        assert "env:NOT_THERE is not set" in str(error)

    def test_from_files(self, aws: Layer, tmp_path: Path) -> None:
        for name, value in (("access", "AKIAIOSFODNN7EXAMPLE"), ("secret", SECRET_KEY)):
            (tmp_path / name).write_text(f"{value}\n")
        account = Account("us-east-1", aws.url, f"file:{tmp_path / 'access'}", f"file:{tmp_path / 'secret'}")
        assert "ClusterNotFoundException" in str(ask(account))


class TestWhatIsQuoted:
    """Whoever answers, a proxy in between too, may quote the request; our words do not."""

    ACCESS_KEY, SESSION = "AKIAIOSFODNN7EXAMPLE", "a-token-of-the-session-4711"
    ANSWERS = {
        "AWS itself": refused("ClientException", f"{ACCESS_KEY} {SESSION} is not known"),
        "a proxy": Fault(status=502, body=f"not with {ACCESS_KEY} {SESSION}".encode()),
    }

    @pytest.mark.parametrize("fault", ANSWERS.values(), ids=ANSWERS)
    def test_a_key_of_the_settings(self, aws: Layer, account: Account, fault: Fault) -> None:
        aws.will("DescribeServices", *[fault] * READ_ATTEMPTS)
        assert self.ACCESS_KEY not in str(ask(account))

    def test_the_session_of_a_role(self, aws: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", self.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_SESSION_TOKEN", self.SESSION)
        aws.will("DescribeServices", self.ANSWERS["AWS itself"])
        words = str(ask(Account("us-east-1", aws.url)))
        assert self.SESSION not in words and self.ACCESS_KEY not in words and f"{MASK} {MASK} is not known" in words

    def test_what_cannot_be_read(self, aws: Layer, account: Account) -> None:
        aws.will("DescribeDBInstances", *[Fault(status=200, body=f"not with {self.ACCESS_KEY}".encode())] * 3)
        with pytest.raises(StepError, match="is not from AWS") as told, in_words("rds:DescribeDBInstances", "all"):
            rds(account, 1).describe_db_instances()
        assert self.ACCESS_KEY not in str(told.value) and f"not with {MASK}" in str(told.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:5000", "http://169.254.169.254", "http://a:b@host"])
def test_an_endpoint_that_must_not_be_asked(url: str) -> None:
    with pytest.raises(StepError, match="The endpoint_url") as raised:
        ecs(Account("us-east-1", url), 1)
    assert raised.value.permanent


def test_a_region_that_is_none() -> None:
    with pytest.raises(StepError, match="making a client for ECS on region ! is not possible"):
        ecs(Account("!"), 1)
