"""What ``nbq doctor`` finds wrong, and what it says to do."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from nbq.cli.doctor import Check, clock_check, engine_checks, file_system
from nbq.core.model import EngineInfo
from nbq.core.views import ClusterView, EngineView
from nbq.version import versions
from tests.cli.command import nbq

MOUNTS = (
    "/dev/vda1 / ext4 rw 0 0\n"
    "tmpfs /tmp tmpfs rw 0 0\n"
    "server:/net /net nfs4 rw 0 0\n"
    "/dev/vdb1 /net/me/my\\040disk xfs rw 0 0\n"
    "auto /srv autofs rw 0 0\n"
    "server:/srv /srv cifs rw 0 0\n"
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/tmp", "tmpfs"),
        ("/tmpfoo", "ext4"),
        ("/net/me", "nfs4"),
        ("/net/me/my disk/data", "xfs"),
        ("/srv/data", "cifs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_last_deepest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def engine(state: str = "up", beat_s: float = 0.1, **versions_: str) -> ClusterView:
    info = EngineInfo("e1", "host1", 7, 4, ["default"], **{**versions(), **versions_})
    return ClusterView({}, [EngineView(b"e1", info, 0, 0, state, 0, beat_s)], [], {})


SLOTS = "'e1' on host1 (slots: 4) is "


@pytest.mark.parametrize(
    ("view", "check"),
    [
        (engine(), Check("ok", "engine", f"{SLOTS}up; the same versions as here")),
        (engine("gone", 3.0), Check("note", "engine", f"{SLOTS}gone, last heard 3 s ago")),
        (engine("up", 9.0), Check("note", "engine", f"{SLOTS}up, last heard 9 s ago")),
        (
            engine(cloudpickle="1.0"),
            Check(
                "note",
                "engine",
                f"{SLOTS}up; it has cloudpickle 1.0 (here {versions()['cloudpickle']}): best use the same",
            ),
        ),
        (
            engine(python="3.8.1"),
            Check(
                "wrong",
                "engine",
                f"{SLOTS}up, but it has python 3.8.1 (here {platform.python_version()}); functions of a "
                "notebook cannot be sent between two versions of Python: use one",
            ),
        ),
        (
            ClusterView({}, [], [], {}),
            Check("note", "engines", "there are none, so nothing runs: start one with 'nbq engine'"),
        ),
    ],
)
def test_an_engine_is_judged_by_its_state_and_versions(view: ClusterView, check: Check) -> None:
    assert list(engine_checks(view)) == [check]


def test_clocks_may_differ_by_a_second() -> None:
    assert clock_check(-0.5) == Check("ok", "clocks", "the hub's clock and this one differ by 0.50 s")
    assert clock_check(90.0) == Check(
        "wrong",
        "clocks",
        "the hub's clock and this one differ by 90.00 s: etas and expiry will be off by so much; "
        "run NTP on both",
    )


def test_nothing_is_wrong_where_no_hub_ever_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQ_DATA_DIR", str(tmp_path / "data"))
    ran = nbq("doctor", "--json")
    assert (ran.code, ran.json["ok"]) == (0, True)
    found = {check["what"]: check["text"] for check in ran.json["checks"] if check["level"] == "note"}
    assert found["hub"] == "no hub was ever started here: 'nbq hub', or nbq.Cluster(slots=2)"
    assert found["data folder"] == f"{tmp_path}/data/default is not there yet: the first hub makes it"
    assert not (tmp_path / "data").exists()


def test_an_open_data_folder_and_a_dead_hub_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBQ_DATA_DIR", str(tmp_path))
    (tmp_path / "team").mkdir()
    (tmp_path / "team").chmod(0o755)
    ran = nbq("doctor", "--hub", "team", "--json")
    wrong = [check for check in ran.json["checks"] if check["level"] == "wrong"]
    assert (ran.code, ran.json["ok"], wrong) == (
        1,
        False,
        [
            {
                "level": "wrong",
                "what": "data folder",
                "text": f"{tmp_path}/team is open to other users: chmod 700 {tmp_path}/team",
            },
            {
                "level": "wrong",
                "what": "hub",
                "text": f"no hub named 'team' was ever started here ({tmp_path}/team/client.json is "
                "missing): start one with 'nbq hub --name team', or use nbq.Cluster(slots=2)",
            },
        ],
    )


def test_its_sentences_stand_under_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQ_DATA_DIR", str(tmp_path))
    ran = nbq("doctor", "--hub", "team")
    lines = ran.out.splitlines()
    assert (ran.code, ran.err, lines[-2:]) == (1, "", ["", "1 wrong"])
    at = lines[0].index("found")
    assert [line for line in lines[1:-2] if line[at - 1] != " " or line[at] == " "] == []
