"""Addresses: what reaches the same gRPC endpoint is the same server, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weed_cluster.address import Address
from weed_core.errors import BadTask

HOSTS = st.sampled_from(["10.0.0.1", "volume-1.seaweed.svc", "[::1]", "[fe80::1%eth0]", "localhost"])


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.1:8080", "10.0.0.1:18080"),
        ("10.0.0.1:8080.18081", "10.0.0.1:18081"),
        ("volume-1.seaweed:8080.9", "volume-1.seaweed:9"),
        ("[::1]:8080", "[::1]:18080"),
        (" host:8080 ", "host:18080"),
    ],
)
def test_the_grpc_port_is_the_named_one_or_ten_thousand_higher(text: str, endpoint: str) -> None:
    assert Address.parse(text).grpc == endpoint


def test_addresses_are_equal_where_they_reach_one_endpoint() -> None:
    assert Address.parse("h:8080") == Address.parse("h:8080.18080") == Address.parse("H:1.18080")
    assert len({Address.parse("h:8080"), Address.parse("h:8080.18080")}) == 1
    assert Address.parse("h:8080") != Address.parse("h:8080.18081")
    assert Address.parse("h:8080") != Address.parse("g:8080")


@pytest.mark.parametrize(
    "text",
    ["", "h", "h:", ":8080", "h:x", "h:8080.", "h:8080.x", "h:123456", "h:60000", "h:0.0", "a b:80", "http://h:80",
     "h:80/x", "::1:8080", "u@h:80", "h:8080.70000", "volume server 1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_naming_it(text: str) -> None:
    with pytest.raises(BadTask, match="is no server address"):
        Address.parse(text)


@given(HOSTS, st.integers(1, 55535), st.none() | st.integers(1, 65535))
def test_an_address_survives_writing_and_reading(host: str, port: int, grpc_port: int | None) -> None:
    address = Address.parse(f"{host}:{port}" + (f".{grpc_port}" if grpc_port else ""))
    again = Address.parse(str(address))
    assert (again, again.http, again.grpc) == (address, f"{host.lower()}:{port}", address.grpc)
