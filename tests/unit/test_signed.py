"""A signed message is run for what it says and for nothing else, and by whom it is signed is decided first."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, utils
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from runner.protocol import signed
from runner.protocol.invalid import InvalidMessage
from runner.protocol.masking import rejected_body
from runner.signing.keypairs import KINDS, BadKey, Kind, key_pair, public_key

from signers import NOW, envelope, message, pair, pem, public_pem, taken, trust, trusted

ED, EC = pair("ops"), pair("kms", "p256")
BOTH = pytest.mark.parametrize("signer", [ED, EC], ids=KINDS)


def refused(body: object, of: Any, **host: Any) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        taken(body, of, **host)
    return caught.value


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- good ones


@BOTH
def test_a_signed_message_runs_as_its_payload_says_and_names_its_key(signer: Any) -> None:
    body = envelope(message(env={"A": "1"}, labels={"a": "1"}), signer, run_id="r:1", labels={"b": "2"})
    job = taken(body, trust(trusted(signer), require=True))
    assert (job.job, job.run_id, job.env, job.labels) == ("backup", "r-1", {"A": "1"}, {"a": "1", "b": "2"})
    assert job.signed_by == signer.keyid
    assert len(signer.keyid) == 16
    assert type(job).from_json(json.loads(json.dumps(job.to_json()))) == job


def test_the_envelopes_of_aws_are_taken_off_around_a_signed_message() -> None:
    inner = envelope(run_id="r1")
    sns = {"Type": "Notification", "Message": json.dumps(inner)}
    event = {"detail-type": "job", "detail": inner}
    assert [taken(body, trust(require=True)).run_id for body in (sns, event)] == ["r1", "r1"]


def test_one_good_signature_of_a_key_that_may_sign_it_is_enough() -> None:
    made = envelope(signer=EC)
    made["signatures"] = [
        {"keyid": "0" * 16, "sig": text_of(b"x" * 64)},
        {"keyid": ED.keyid, "sig": text_of(b"x" * 64)},
        *made["signatures"],
    ]
    assert taken(made, trust(trusted(ED), trusted(EC))).signed_by == EC.keyid
    # Both fit, and only the second may sign the job, or for its user.
    both = envelope(message(user="app"))
    both["signatures"] += envelope(message(user="app"), EC)["signatures"]
    assert taken(both, trust(trusted(ED, jobs=("x*",)), trusted(EC))).signed_by == EC.keyid
    assert taken(both, trust(trusted(ED, users=("x*",)), trusted(EC))).signed_by == EC.keyid


def test_a_signature_that_does_not_name_its_key_is_tried_with_those_that_are_known() -> None:
    made = envelope(signer=EC)
    del made["signatures"][0]["keyid"]
    assert taken(made, trust(trusted(ED), trusted(EC))).signed_by == EC.keyid
    assert refused(made, trust(trusted(ED))).reason == "bad_signature"


def test_url_safe_base64_is_base64_too() -> None:
    made = envelope(message(command="printf '???>>>' ~~~"))
    safe = {**made, "payload": made["payload"].translate(str.maketrans("+/", "-_"))}
    assert safe != made
    assert taken(safe, trust()).signed_by == ED.keyid


# -- whom a host believes


def test_an_unsigned_message_is_refused_only_where_signed_ones_are_required() -> None:
    assert taken(message(), trust()).signed_by is None
    error = refused(message(run_id="r1"), trust(require=True))
    assert (error.reason, error.job, error.run_id) == ("not_signed", "backup", "r1")
    assert '"backup"' in error.detail


def test_nothing_of_an_unsigned_message_is_read_before_it_is_refused() -> None:
    assert refused({"job": "x", "zzz": 1, "command": 5}, trust(require=True)).reason == "not_signed"
    assert refused(envelope({"zzz": 1}, pair("other")), trust()).reason == "bad_signature"


def test_a_host_without_keys_takes_no_signed_message() -> None:
    error = refused(envelope(), None)
    assert (error.reason, error.job) == ("bad_signature", "backup")


def test_an_unknown_key_and_a_wrong_one_are_bad_signatures_that_name_the_key() -> None:
    stranger = pair("stranger")
    error = refused(envelope(signer=stranger), trust())
    assert error.reason == "bad_signature"
    assert stranger.keyid in error.detail
    forged = envelope(signer=stranger)
    forged["signatures"][0]["keyid"] = ED.keyid
    error = refused(forged, trust())
    assert (error.reason, error.job) == ("bad_signature", "backup")
    assert ED.keyid in error.detail


@pytest.mark.parametrize(
    ("key", "said", "names"),
    [
        ({"jobs": ("web-*",)}, {}, "backup"),
        ({"users": ("app",)}, {"user": "root"}, "root"),
        ({"users": ("app",)}, {}, "cron-runner-job"),
        ({"until": NOW}, {}, "2030"),
        ({}, {"group": "db"}, "db"),
    ],
)
def test_what_a_key_may_not_sign_is_not_allowed_and_says_which_key(key: Any, said: Any, names: str) -> None:
    error = refused(envelope(message(**said)), trust(trusted(**key)))
    assert (error.reason, error.job) == ("not_allowed", "backup")
    assert ED.keyid in error.detail
    assert names in error.detail


def test_a_key_signs_within_what_the_host_allows() -> None:
    assert taken(envelope(message(user="app")), trust(trusted(users=("app",)))).user == "app"
    assert taken(envelope(), trust(trusted(users=("app",))), user="app").user == "app"
    assert refused(envelope(message(user="eve")), trust(trusted(users=("*",)))).reason == "not_allowed"


def test_one_file_may_stand_twice_for_other_jobs_as_other_users() -> None:
    keys = trusted(jobs=("a",), users=("app",)), trusted(jobs=("b",), users=("root",))
    assert taken(envelope(message(job="a", user="app")), trust(*keys))
    assert refused(envelope(message(job="a", user="root")), trust(*keys)).reason == "not_allowed"


def test_a_signed_message_names_its_group() -> None:
    error = refused(envelope({"job": "backup", "command": "true"}), trust())
    assert (error.reason, error.detail[:6]) == ("invalid", "group:")


def test_an_unsigned_message_may_name_the_group_too() -> None:
    assert taken(message(), None)
    error = refused(message(group="db"), None)
    assert (error.reason, error.job) == ("not_allowed", "backup")


# -- what `run` may say


@pytest.mark.parametrize("name", ["command", "env", "user", "group", "job", "args", "valid_until"])
def test_run_says_when_and_never_what(name: str) -> None:
    assert refused(envelope(**{name: "x"}), trust()).reason == "not_allowed"


@pytest.mark.parametrize(
    ("said", "run"),
    [
        ({"run_id": "a"}, {"run_id": "b"}),
        ({"not_after": "2030-03-18T00:00:00Z"}, {"not_after": "2031-03-18T00:00:00Z"}),
        ({"labels": {"team": "a"}}, {"labels": {"team": "b"}}),
        ({"labels": {"team": "a"}}, {"labels": 1}),
    ],
)
def test_what_is_signed_is_changed_by_nobody(said: Any, run: Any) -> None:
    assert refused(envelope(message(**said), **run), trust()).reason == "not_allowed"
    assert taken(envelope(message(**said), **said), trust())


# -- fresh ones


AT = "2030-03-17T17:30:00Z"  # 1000 s before NOW
ORDER = {"schedule": "30 * * * *", "timezone": "UTC", "valid_until": "2030-12-31T00:00:00Z"}
FRESH = {"fresh": True}


def test_a_message_for_one_run_is_fresh_for_a_day_at_most() -> None:
    soon, late = "2030-03-18T17:46:40Z", "2030-03-18T17:46:41Z"
    assert taken(envelope(message(run_id="r", not_after=soon)), trust(**FRESH)).run_id == "r"
    assert refused(envelope(message(run_id="r", not_after=late)), trust(**FRESH)).reason == "not_allowed"
    for said, run in (({"run_id": "r"}, {"not_after": soon}), ({"not_after": soon}, {"run_id": "r"}), ({}, {})):
        assert refused(envelope(message(**said), **run), trust(**FRESH)).reason == "not_allowed"
        assert taken(envelope(message(**said), **run), trust())


def test_a_standing_order_starts_its_job_at_its_fire_times_once_and_never_else() -> None:
    order = message(**ORDER)
    due = "backup-2030-03-17T17-30-00Z"
    for run in ({}, {"run_id": due}, {"run_id": "backup-2030-03-17T17:30:00Z"}):
        assert taken(envelope(order, scheduled_at=AT, **run), trust(**FRESH)).run_id == due
    for run in (
        {},
        {"run_id": due},
        {"scheduled_at": AT, "run_id": "again"},
        {"scheduled_at": "2030-03-17T17:29:59Z"},
        {"scheduled_at": "2030-03-17T17:30:00.5Z"},
        {"scheduled_at": "2030-03-17T16:30:00Z"},  # a fire time, more than an hour ago
        {"scheduled_at": "2030-03-17T18:30:00Z"},  # one to come
    ):
        error = refused(envelope(order, **run), trust(**FRESH))
        assert error.reason == "not_allowed", run


def test_a_standing_order_has_an_end_on_every_host() -> None:
    over = message(**{**ORDER, "valid_until": "2030-03-17T17:46:40Z"})
    for host in (trust(), trust(**FRESH)):
        assert refused(envelope(over, scheduled_at=AT), host).reason == "not_allowed"
    endless = {name: value for name, value in ORDER.items() if name != "valid_until"}
    assert refused(envelope(message(**endless), scheduled_at=AT), trust(**FRESH)).reason == "not_allowed"


def test_a_standing_order_of_a_job_with_a_splay_is_taken_so_much_later() -> None:
    late = "2030-03-17T16:30:00Z"  # more than an hour ago
    assert taken(envelope(message(**ORDER, splay=1800), scheduled_at=late), trust(**FRESH)).run_id is not None
    assert refused(envelope(message(**ORDER, splay=60), scheduled_at=late), trust(**FRESH)).reason == "not_allowed"
    assert refused(envelope(message(**ORDER, splay="9d"), scheduled_at=AT), trust(**FRESH)).reason == "not_allowed"


@pytest.mark.parametrize("broken", [{"schedule": "x"}, {"timezone": "Nowhere/Near"}, {"schedule": 5}])
def test_a_standing_order_that_cannot_be_read_is_invalid(broken: Any) -> None:
    error = refused(envelope(message(**{**ORDER, **broken}), scheduled_at=AT), trust(**FRESH))
    assert error.reason == "invalid"


def test_an_unsigned_message_is_no_standing_order() -> None:
    assert refused(message(**ORDER), trust()).reason == "invalid"


# -- another implementation


@pytest.mark.parametrize(
    ("kind", "keytype", "scheme"),
    [("ed25519", "ed25519", "ed25519"), ("p256", "ecdsa", "ecdsa-sha2-nistp256")],
)
def test_what_another_implementation_signs_verifies_here_and_ours_there(kind: Kind, keytype: str, scheme: str) -> None:
    name = "ops" if kind == "ed25519" else "kms"
    ours = pair(name, kind)
    private = serialization.load_pem_private_key(pem(name, kind), None)
    theirs = CryptoSigner(private)
    key = SSlibKey.from_crypto(private.public_key(), keyid=ours.keyid, scheme=scheme)
    theirs = CryptoSigner(private, key)
    made = TheirEnvelope(json.dumps(message()).encode(), signed.PAYLOAD_TYPE, {})
    made.sign(theirs)
    assert taken(made.to_dict(), trust(trusted(ours))).signed_by == ours.keyid
    assert key.keytype == keytype
    back = TheirEnvelope.from_dict(envelope(signer=ours))
    assert back.pae() == signed.encoded(back.payload)
    assert list(back.verify([key], 1)) == [ours.keyid]


# -- everything else is refused


@BOTH
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_bit_flipped_anywhere_is_refused(signer: Any, data: st.DataObject) -> None:
    body = json.dumps(envelope(signer=signer)).encode()
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    flipped = bytearray(body)
    flipped[bit // 8] ^= 1 << bit % 8
    error = refused(bytes(flipped), trust(trusted(signer), require=True))
    assert error.reason in ("invalid", "bad_signature", "not_signed")


@BOTH
def test_every_bit_of_a_signature_counts(signer: Any) -> None:
    made = envelope(signer=signer)
    sig = base64.b64decode(made["signatures"][0]["sig"])
    host = trust(trusted(signer))
    assert taken(made, host)
    for bit in range(len(sig) * 8):
        flipped = bytearray(sig)
        flipped[bit // 8] ^= 1 << bit % 8
        made["signatures"][0]["sig"] = text_of(bytes(flipped))
        assert refused(made, host).reason == "bad_signature"


def test_the_last_bits_of_base64_that_mean_nothing_are_refused() -> None:
    made = envelope(message(command="x"))
    while "=" not in made["payload"]:
        made = envelope(message(command=json.loads(base64.b64decode(made["payload"]))["command"] + "x"))
    text = made["payload"].rstrip("=")
    other = text[:-1] + chr(ord(text[-1]) + 1)
    assert base64.b64decode(other + made["payload"][len(text) :]) == base64.b64decode(made["payload"])
    assert refused({**made, "payload": other + made["payload"][len(text) :]}, trust()).reason == "invalid"
    assert refused({**made, "payload": text}, trust()).reason == "invalid"
    assert refused({**made, "payload": made["payload"] + "\n"}, trust()).reason == "invalid"


def test_a_high_s_is_as_good_as_a_low_one_and_no_other_encoding_is() -> None:
    """OpenSSL takes both (so does https://www.secg.org/sec1-v2.pdf, 4.1.4), and a DER that is the shortest alone."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    made = envelope(signer=EC)
    sig = base64.b64decode(made["signatures"][0]["sig"])
    r, s = utils.decode_dss_signature(sig)

    def with_sig(data: bytes) -> dict[str, Any]:
        return {**made, "signatures": [{"keyid": EC.keyid, "sig": text_of(data)}]}

    host = trust(trusted(EC))
    assert taken(with_sig(utils.encode_dss_signature(r, order - s)), host)
    padded = b"\x30" + bytes([len(sig) - 1]) + b"\x02" + bytes([sig[3] + 1]) + b"\x00" + sig[4:]
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    odd = (sig[:-1], sig + b"\0", padded, raw, b"\0", sig[2:], utils.encode_dss_signature(r, s + order))
    for data in odd:
        assert refused(with_sig(data), host).reason == "bad_signature"


def test_an_ed25519_signature_has_64_bytes_and_a_small_s() -> None:
    made = envelope()
    sig = base64.b64decode(made["signatures"][0]["sig"])
    order = 2**252 + 27742317777372353535851937790883648493
    large = sig[:32] + (int.from_bytes(sig[32:], "little") + order).to_bytes(32, "little")
    for data in (sig[:-1], sig + b"\0", large, sig[:32], sig + sig):
        body = {**made, "signatures": [{"keyid": ED.keyid, "sig": text_of(data)}]}
        assert refused(body, trust()).reason == "bad_signature"


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "application/vnd.in-toto+json"},
        {"payloadType": None},
        {"payload": ""},
        {"payload": 5},
        {"payload": "e30"},
        {"payload": "é30="},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [5]},
        {"signatures": [{"keyid": "x"}]},
        {"signatures": [{"keyid": 5, "sig": "eA=="}]},
        {"signatures": [{"keyid": "x", "sig": "eA==", "cert": "y"}]},
        {"signatures": [{"keyid": "x" * 257, "sig": "eA=="}]},
        {"signatures": [{"keyid": "x", "sig": "eHh4" * 300}]},
        {"run": []},
        {"runs": {}},
        {"payload": text_of(b"[]")},
        {"payload": text_of(b"\xff")},
        {"payload": text_of(b'{"job": "x", "job": "y"}')},
    ],
)
def test_an_envelope_of_another_form_is_refused(change: Any) -> None:
    error = refused({**envelope(), **change}, trust(require=True))
    assert error.reason in ("invalid", "bad_signature")


def test_an_envelope_in_an_envelope_is_refused() -> None:
    error = refused(envelope(envelope()), trust())
    assert (error.reason, error.detail[:8]) == ("invalid", "payload:")
    error = refused(envelope({"Type": "Notification", "Message": json.dumps(message())}), trust())
    assert error.reason == "invalid"


def test_what_is_too_much_is_refused_within_the_bounds_of_a_message() -> None:
    many = envelope()
    many["signatures"] *= 1000
    large = envelope(message(stdin="x" * 2**20))
    largest = envelope(message(stdin="x" * 760_000), pair("stranger"))
    largest["signatures"] = [{"sig": text_of(bytes([n]) * 64)} for n in range(signed.MOST_SIGNATURES)]
    hosts = trust(*(trusted(pair(f"key {n}")) for n in range(8)))
    for body, wanted in ((many, "invalid"), (large, "invalid"), (largest, "bad_signature")):
        text = json.dumps(body)
        started = time.process_time()
        assert refused(text, hosts).reason == wanted
        assert time.process_time() - started < 1.0  # 50 ms of a core that has nothing else to do
    nested = envelope(message(labels={str(n): "x" for n in range(10_001)}))
    assert refused(nested, trust()).reason == "invalid"


def test_an_envelope_that_was_good_once_is_not_checked_again_and_a_changed_one_is() -> None:
    host = trust(trusted(EC))
    made = envelope(signer=EC)
    assert taken(made, host)
    assert taken({**made, "run": {"run_id": "r2"}}, host).run_id == "r2"
    other = envelope(message(command="false"), EC)
    assert refused({**other, "signatures": made["signatures"]}, host).reason == "bad_signature"
    assert refused({**made, "signatures": other["signatures"]}, host).reason == "bad_signature"


def test_what_is_told_of_a_rejected_envelope_hides_what_a_message_would() -> None:
    body, _ = rejected_body(json.dumps(envelope(message(env={"DB_PASSWORD": "hunter2-long"}, args=["hidden-arg"]))))
    assert "backup" in body
    assert "hunter2" not in body
    assert "hidden-arg" not in body
    for broken in ({"payloat": text_of(b'{"job": "x", "env": {"A": "hunter2-long"}}')}, {"payload": "x" * 99}):
        shown, _ = rejected_body(json.dumps(broken))
        assert text_of(b"hunter2-long")[4:12] not in shown
        assert len(shown) < 60


# -- keys


def test_a_key_is_known_by_its_der_whatever_stands_around_it() -> None:
    plain = public_key(public_pem())
    noted = public_key(b"of ops, 2030\n" + public_pem().replace(b"\n", b"\r\n") + b"\ntrailing\n")
    assert plain.keyid == noted.keyid == ED.keyid
    assert public_key(plain.pem.encode()).der == plain.der


def test_a_file_that_is_no_public_key_of_ours_says_what_it_is() -> None:
    public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    others = [
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
    ]
    for text in (b"", b"x", pem(), *(key.public_bytes(*public) for key in others)):
        with pytest.raises(BadKey):
            public_key(text)
    with pytest.raises(BadKey):
        key_pair(public_pem(), lambda: "")


def test_an_encrypted_private_key_asks_for_its_passphrase() -> None:
    private = serialization.load_pem_private_key(pem(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    assert key_pair(locked, lambda: "hunter2").keyid == ED.keyid
    with pytest.raises(BadKey):
        key_pair(locked, lambda: "wrong")
