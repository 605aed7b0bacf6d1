"""A body that is not plain JSON in UTF-8 is read where that is safe, and else told what it is."""

from __future__ import annotations

import codecs
import gzip
import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from contract.redis_address import RedisAddress
from tests.serving_bundles import OnlineStore, overridable, write_linear_bundle
from tests.serving_process import TIMEOUT, Serving, serving

pytestmark = pytest.mark.servers

TEXT = '{"entity_rows": [{"user_id": 1, "category_id": "toys"}]}'
ORDERS = "user_activity__orders_7d"


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress
) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder, features=overridable(ORDERS))
    OnlineStore(redis_server.url).write_user(1, "toys")
    with serving(folder, redis_server.url) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: Serving) -> Iterator[httpx.Client]:
    with server.client(**{"Content-Type": "application/json"}) as client:
        yield client


def _refused(client: httpx.Client, body: bytes, **headers: str) -> tuple[int, str]:
    answer = client.post("/predict", content=body, headers=headers)
    return answer.status_code, answer.json()["error"]["message"]


def test_a_byte_order_mark_is_skipped(client: httpx.Client) -> None:
    answer = client.post("/predict", content=codecs.BOM_UTF8 + TEXT.encode())
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", 'application/json;charset="UTF-8"']
)
def test_utf_8_may_be_declared(client: httpx.Client, kind: str) -> None:
    answer = client.post("/predict", content=TEXT, headers={"Content-Type": kind})
    assert answer.status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused_by_name(client: httpx.Client, coding: str) -> None:
    body = gzip.compress(TEXT.encode())
    status, message = _refused(client, body, **{"Content-Encoding": coding})
    assert status == 415
    assert message == f"Content-Encoding: {coding} is not read; send the JSON as it is"


def test_another_charset_is_refused_by_name(client: httpx.Client) -> None:
    kind = {"Content-Type": "application/json; charset=utf-16"}
    assert _refused(client, TEXT.encode("utf-16"), **kind) == (
        415,
        "charset=utf-16 is not read; send the JSON as UTF-8",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(TEXT.encode(), mtime=0), "it is gzip; send UTF-8"),
        (TEXT.encode("utf-16"), "it is UTF-16; send UTF-8"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "it is UTF-16; send UTF-8"),
        (TEXT.encode("utf-16-le"), "it looks like UTF-16 or UTF-32; send UTF-8"),
        (TEXT.encode("utf-16-be"), "it looks like UTF-16 or UTF-32; send UTF-8"),
        (TEXT.encode("utf-32"), "it is UTF-32; send UTF-8"),
        ('{"entity_rows": ["é"]}'.encode("latin-1"), "byte 18 is not UTF-8"),
        (b'{"a": NaN}', "NaN at line 1 column 7 is not JSON; send null"),
        (b'{"a": [1,\n Infinity]}', "Infinity at line 2 column 2 is not JSON; send null"),
        (b'{"a": [1,\n  -Infinity]}', "-Infinity at line 2 column 3 is not JSON; send null"),
        ('{"é": NaN}'.encode(), "NaN at line 1 column 7 is not JSON; send null"),
        (b'{"a": 1e999}', "number is infinity when parsed as double at line 1 column 7"),
        (b'{"a": 1,}', "at line 1 column 8"),
        (b"{'a': 1}", "at line 1 column 2"),
        (b'{"a": 1', "unexpected end of data at line 1 column 8"),
        (b"", "at line 1 column 1"),
        (b"{} {}", "at line 1 column 4"),
    ],
)
def test_what_is_no_json_is_told_and_where(client: httpx.Client, body: bytes, reason: str) -> None:
    status, message = _refused(client, body)
    assert status == 422
    assert message.startswith("the body is not JSON: ")
    assert message.endswith(reason)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"strict": true, "entity_rows": [{}], "strict": false}', "strict"),
        ('{"entity_rows": [{"user_id": 1, "category_id": "a:b", "user_id": 2}]}', "user_id"),
        ('{"entity_rows": [{"user_id": {"a": 1, "a": 2}}]}', "a"),
        ('{"entity_rows": [[1], {"user_id": 1, "user_id": 2}]}', "user_id"),
        ('{"entity_rows": [{}], "feature_overrides": [{"x": 1, "\\u0078": 2}]}', "x"),
    ],
)
def test_a_key_given_twice_is_refused_by_name(client: httpx.Client, body: str, name: str) -> None:
    message = f"{name!r} is given twice in one object"
    assert _refused(client, body.encode()) == (422, message)


@pytest.mark.parametrize("key", ["a:b", 'a\\":b', "::::", "\\\\"])
def test_colons_in_values_do_not_matter(client: httpx.Client, key: str) -> None:
    body = f'{{"entity_rows": [{{"user_id": 1, "category_id": "{key}"}}]}}'
    assert client.post("/predict", content=body).status_code == 200


def test_nested_objects_fail_their_row_only(client: httpx.Client) -> None:
    rows = [{"user_id": {"a": 1, "b": {"a": 1}}, "category_id": "toys"}, json.loads(TEXT)]
    answer = client.post("/predict", content=json.dumps({"entity_rows": [rows[0]]}))
    assert answer.json()["predictions"][0]["error"]["code"] == "invalid_entity_row"


def test_a_body_nested_too_deeply_is_refused(client: httpx.Client) -> None:
    body = '{"entity_rows": [' + '{"a": ' * 1_000 + "1" + "}" * 1_000 + "]}"
    status, message = _refused(client, body.encode())
    assert (status, message) == (422, "the body is nested too deeply")


def test_a_body_announced_as_too_large_is_refused_before_it_comes(server: Serving) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port)), TIMEOUT) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 413 ")
