"""Keys and signed messages from the command line, checked as a host would."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from moto import mock_aws

from runner.cli.main import main
from runner.config import load
from runner.protocol.invalid import InvalidMessage
from runner.protocol.job import Job
from runner.protocol.message import read_job
from runner.signing.load import trust_of

from signers import GROUP

KMS = "arn:aws:kms:eu-west-1:123456789012:key/1234"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of the group, which takes what `ops.pem` has signed, and nothing twice."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.toml"
    file.write_text(
        f'group = "{GROUP}"\nqueue.name = "cron"\n[signing]\nrequire = true\nfresh = true\n'
        f'[[signing.keys]]\nfile = "{tmp_path}/ops.pem"\n'
    )
    return file


def typed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    """What a command prints; the error where it is to fail."""
    assert main(words) == status, capsys.readouterr().err
    said = capsys.readouterr()
    return said.err if status else said.out


def run(body: str, config: Path) -> Job:
    settings = load(config, {})
    return read_job(
        body, message_id="m", defaults=settings.defaults(), declarations=settings.jobs, trust=trust_of(settings)
    )


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_key_that_is_made_signs_what_hosts_take(config: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    said = typed(capsys, "keys", "new", "ops.key", "--kind", kind)
    keyid = said.split()[1]
    assert '[[signing.keys]]\nfile = "/etc/cron-runner/keys/ops.key.pub"\n' in said
    assert [stat.S_IMODE(Path(name).stat().st_mode) & 0o77 for name in ("ops.key", "ops.key.pub")] == [0, 0o44]
    shown = typed(capsys, "keys", "show", "ops.key")
    assert keyid in shown
    assert "PRIVATE" not in shown
    Path("ops.pem").write_text(shown)
    assert json.loads(typed(capsys, "keys", "show", "ops.pem", "--json"))["keyid"] == keyid

    body = typed(
        capsys, *("--config", str(config), "send", "backup", "--key", "ops.key", "--print", "--label", "a=b"),
        *("--", "echo", "hi"),
    )  # fmt: skip
    job = run(body, config)
    assert (job.argv, job.signed_by, job.labels) == (("echo", "hi"), keyid, {"a": "b"})
    assert job.not_after is not None
    assert run(body, config).run_id == job.run_id  # what is sent again is the same run
    Path("message.json").write_text(json.dumps({"job": "backup", "command": "true", "group": GROUP}))
    body = typed(capsys, *("send", "--message", "message.json", "--run-id", "r1", "--key", "ops.key", "--print"))
    assert run(body, config).run_id == "r1"


def test_a_key_that_is_there_is_not_written_over(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed(capsys, "keys", "new", "ops.key")
    before = Path("ops.key").read_bytes()
    assert "it is there already" in typed(capsys, "keys", "new", "ops.key", status=125)
    assert Path("ops.key").read_bytes() == before
    Path("b.key.pub").touch()
    assert "it is there already" in typed(capsys, "keys", "new", "b.key", status=125)
    assert not Path("b.key").exists()
    assert config.exists()


def test_what_is_no_key_says_what_to_do(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text").write_text("hello")
    send = ("--config", str(config), "send", "x", "--print", "--shell", "true", "--key")
    assert "cron-runner keys new" in typed(capsys, *send, "missing.key", status=125)
    assert "no private key" in typed(capsys, *send, "text", status=125)
    assert "no ARN of a key" in typed(capsys, *send, "awskms:alias/x", status=125)
    assert "public key" in typed(capsys, "keys", "show", "text", status=125)


def test_a_signed_message_is_passed_on_as_it_is(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed(capsys, "keys", "new", "ops.key")
    Path("ops.pem").write_bytes(Path("ops.key.pub").read_bytes())
    send = ("--config", str(config), "send")
    body = typed(capsys, *send, "backup", "--shell", "true", "--key", "ops.key", "--print")
    Path("signed.json").write_text(body)
    assert typed(capsys, *send, "--message", "signed.json", "--print") == body
    assert "signed already" in typed(capsys, *send, "--message", "signed.json", "--key", "ops.key", "--print", status=2)
    broken = json.loads(body) | {"run": {"run_id": "r2"}}
    with pytest.raises(InvalidMessage):
        run(json.dumps(broken), config)


@mock_aws
def test_a_key_of_kms_signs_as_a_file_does(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.session import get_session

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")  # the key's own region counts
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    kms = get_session().create_client("kms", region_name="eu-west-1")
    made = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    other = kms.create_key(KeySpec="SYMMETRIC_DEFAULT")["KeyMetadata"]["Arn"]
    Path("ops.pem").write_text(typed(capsys, "keys", "show", f"awskms:{made}"))
    send = ("--config", str(config), "send", "backup", "--shell", "x" * 3000, "--print", "--key")
    job = run(typed(capsys, *send, f"awskms:{made}"), config)
    assert job.signed_by
    assert job.signed_by in Path("ops.pem").read_text()
    assert "NotFound" in typed(capsys, *send, f"awskms:{KMS}", status=125)
    assert "cannot sign" in typed(capsys, *send, f"awskms:{other}", status=125)
