"""Serializers and compressions from call to value; engines and clients that read only what they accept."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

import nbq
from nbq.errors import ContentDisallowed, NotSerializable, SettingsError
from tests.processes import work
from tests.processes.harness import World

WAIT_S = 30.0


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle", "yaml"])
@pytest.mark.parametrize("compression", ["auto", "bzip2", "gzip", "lz4", "none", "zlib", "zstd"])
def test_arguments_and_results_of_every_kind(client: nbq.Client, serializer: str, compression: str) -> None:
    result = work.add.apply_async(
        (["x"], ["y"]), serializer=serializer, compression=compression, result_serializer=serializer,
        result_compression=compression,
    )  # fmt: skip
    assert result.get(WAIT_S) == ["x", "y"]


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
def test_what_a_task_gets_and_returns_is_what_the_serializers_make_of_it(
    client: nbq.Client, size: int
) -> None:
    value = (1, "x" * size)
    results = {
        name: work.add.apply_async((value, ()), result_serializer=name, result_compression="zstd").get(WAIT_S)
        for name in ("json", "pickle")
    }
    assert results == {"json": [1, "x" * size], "pickle": (1, "x" * size)}
    assert work.add.apply_async((value, [2]), serializer="json").get(WAIT_S) == [1, "x" * size, 2]


def test_values_pass_from_task_to_task_by_any_serializer(client: nbq.Client) -> None:
    members = [
        work.add.s(index, 1).set(result_serializer=name, serializer=name)
        for index, name in enumerate(["json", "pickle", "yaml", "msgpack"])
    ]
    body = work.total.s().set(serializer="json", result_serializer="yaml")
    assert nbq.chord(members, body).delay().get(WAIT_S) == 10


def test_a_result_that_its_serializer_cannot_take_is_the_task_s_failure(client: nbq.Client) -> None:
    result = work.add.apply_async((b"x", b"y"), result_serializer="json")
    with pytest.raises(NotSerializable, match="result cannot be serialised as json: bytes is none of"):
        result.get(WAIT_S)


def test_the_failure_of_a_task_with_plain_results_has_its_class(client: nbq.Client) -> None:
    result = work.fail.apply_async(("why",), result_serializer="json")
    with pytest.raises(ValueError, match="why") as caught:
        result.get(WAIT_S)
    assert (type(caught.value), caught.value.args) == (ValueError, ("why",))


def test_a_call_that_cannot_be_made_fails_where_it_is_made(client: nbq.Client) -> None:
    with pytest.raises(SettingsError, match="no serializer 'jsn' is known here"):
        work.add.apply_async((1, 2), serializer="jsn")
    with pytest.raises(SettingsError, match="no compression 'gz' is known here"):
        work.add.apply_async((1, 2), compression="gz")
    with pytest.raises(NotSerializable, match=r"^args\[1\] cannot be serialised as json: set is none of"):
        work.add.apply_async((1, {2}), serializer="json")
    with pytest.raises(
        NotSerializable, match=r"^kwargs\['y'\] cannot be serialised as json: complex is none"
    ):
        nbq.group(work.plus.s(1, y=1j).set(serializer="json"), work.plus.s(1)).delay()


# ------------------------------------------------------------------ only what is accepted


@pytest.fixture
def json_only(world: World) -> Iterator[nbq.Client]:
    """A client of a cluster that accepts and, unless told otherwise, makes only JSON."""
    with nbq.Cluster(
        slots=1, accept_content=("json",), task_serializer="json", result_serializer="json"
    ) as client:
        yield client


def test_an_engine_and_a_client_that_accept_only_json(json_only: nbq.Client) -> None:
    add = work.add
    assert add.delay(1, 2).get(WAIT_S) == 3
    assert nbq.chord([add.s(1, 2), add.s(3, 4)], work.total.s()).delay().get(WAIT_S) == 10
    with pytest.raises(ValueError, match="why") as caught:
        work.fail.delay("why").get(WAIT_S)
    assert (type(caught.value), caught.value.args) == (ValueError, ("why",))
    with pytest.raises(
        ContentDisallowed, match="made by the serializer 'pickle', and accept_content here lists"
    ):
        add.apply_async((1, 2), serializer="pickle").get(WAIT_S)
    with pytest.raises(
        ContentDisallowed, match="made by the serializer 'pickle', and accept_content here lists"
    ):
        add.apply_async((["x" * 500_000], []), serializer="pickle").get(WAIT_S)
    pickled = add.apply_async((1, 2), result_serializer="pickle")
    with pytest.raises(
        ContentDisallowed, match="made by the serializer 'pickle', and accept_content here lists"
    ):
        pickled.get(WAIT_S)
    assert pickled.successful()
    fed = nbq.chain(add.s(1, 2).set(result_serializer="pickle"), add.s(3)).delay()
    with pytest.raises(ContentDisallowed, match="made by the serializer 'pickle'"):
        fed.get(WAIT_S)
    with pytest.raises(ContentDisallowed, match="a function that goes by value is pickled"):
        json_only.submit(lambda: 1).get(WAIT_S)
    with pytest.raises(ValueError, match="why") as caught:
        work.fail.apply_async(("why",), result_serializer="pickle").get(WAIT_S)
    assert (type(caught.value), caught.value.args) == (ValueError, ("why",))


# ------------------------------------------------------------------ one's own


def test_a_serializer_and_a_compression_of_ones_own(world: World) -> None:
    """The supervisor between client and slot knows neither."""
    importlib.import_module("tests.processes.own_codecs")
    own = {"serializer": "literal", "compression": "mirror"}
    own |= {f"result_{name}": value for name, value in own.items()}
    with nbq.Cluster(
        slots=1, include=("tests.processes.own_codecs",), accept_content=("pickle", "text/x-literal")
    ):
        assert work.add.apply_async(((1,), (2,)), **own).get(WAIT_S) == (1, 2)
        chained = work.add.s(1, 2).set(**own) | work.add.s(3).set(**own)
        assert chained.delay().get(WAIT_S) == 6
        large = work.add.apply_async(("x" * 500_000, "y"), **own)
        assert large.get(WAIT_S) == "x" * 500_000 + "y"


def test_a_serializer_that_an_engine_does_not_know(world: World) -> None:
    importlib.import_module("tests.processes.own_codecs")
    with nbq.Cluster(slots=1, accept_content=("pickle", "literal")):
        with pytest.raises(
            ContentDisallowed, match="serializer 'literal', which is not registered here: call"
        ):
            work.add.apply_async((1, 2), serializer="literal").get(WAIT_S)
        with pytest.raises(SettingsError, match="no serializer 'literal' is known here"):
            work.add.apply_async((1, 2), result_serializer="literal").get(WAIT_S)
