"""What Prometheus is told, whole."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from nbq.core.model import EngineInfo
from nbq.core.views import ClusterView, EngineView, QueueView
from nbq.errors import UsageError
from nbq.web.metrics import exposition

HUB = {"uptime_s": 12.5, "runs": 3, "unfinished": 7, "bytes": 4096, "clients": 2, "name": "team"}
ENGINE = EngineView(b"e" * 8, EngineInfo('a"b\n', "host", 1, 4, ["default"]), 6, 3, "up", 1000, 0.1)
VIEW = ClusterView(
    HUB,
    [ENGINE],
    [QueueView("default", 5, 6, 1), QueueView("gpu", 2, 0, 0, True)],
    {"QUEUED": 7, "SUCCESS": 9},
)


def samples(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def test_a_hub_is_told_whole() -> None:
    engine = '{engine="a\\"b\\n",host="host"}'
    assert samples(exposition(VIEW)) == [
        "nbq_hub_up 1.0",
        "nbq_hub_uptime_seconds 12.5",
        "nbq_hub_runs 3.0",
        "nbq_hub_unfinished_tasks 7.0",
        "nbq_hub_result_bytes 4096.0",
        "nbq_hub_clients 2.0",
        'nbq_tasks{state="WAITING"} 0.0',
        'nbq_tasks{state="SCHEDULED"} 0.0',
        'nbq_tasks{state="RETRY"} 0.0',
        'nbq_tasks{state="QUEUED"} 7.0',
        'nbq_tasks{state="STARTED"} 0.0',
        'nbq_tasks{state="SUCCESS"} 9.0',
        'nbq_tasks{state="FAILURE"} 0.0',
        'nbq_tasks{state="REVOKED"} 0.0',
        'nbq_queue_queued{queue="default"} 5.0',
        'nbq_queue_queued{queue="gpu"} 2.0',
        'nbq_queue_granted{queue="default"} 6.0',
        'nbq_queue_granted{queue="gpu"} 0.0',
        'nbq_queue_engines{queue="default"} 1.0',
        'nbq_queue_engines{queue="gpu"} 0.0',
        'nbq_queue_paused{queue="default"} 0.0',
        'nbq_queue_paused{queue="gpu"} 1.0',
        f"nbq_engine_up{engine} 1.0",
        f"nbq_engine_slots{engine} 4.0",
        f"nbq_engine_running{engine} 3.0",
        f"nbq_engine_resident_bytes{engine} 1000.0",
    ]


def test_a_hub_that_does_not_answer_is_down() -> None:
    assert samples(exposition(None)) == ["nbq_hub_up 0.0"]


def test_without_its_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"pip install 'nbq\[metrics\]'"):
        exposition(VIEW)
