"""That each row and each setting of the introduction to Celery has a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROWS = {
    1: "broker", 2: "task", 3: "worker", 4: "apply_async", 5: "delay", 6: "a call", 7: "link", 8: "errbacks",
    9: "eta", 10: "countdown", 11: "expires", 12: "serializer", 13: "custom serializer", 14: "compression",
    15: "custom compression", 16: "execution options", 17: "subtask", 18: "s()", 19: "a subtask is called",
    20: "partials", 21: "by name", 22: "group", 23: "partial group", 24: "chain", 25: "partial chain",
    26: "chord", 27: "group | task", 28: "task | group", 29: "immutable", 30: "parents", 31: "nesting",
}  # fmt: skip

SETTINGS = """
CELERY_INCLUDE CELERY_ACCEPT_CONTENT CELERY_DEFAULT_QUEUE CELERY_DEFAULT_EXCHANGE
CELERY_DEFAULT_EXCHANGE_TYPE CELERY_DEFAULT_ROUTING_KEY CELERY_DEFAULT_DELIVERY_MODE
CELERY_BROADCAST_QUEUE CELERY_TIMEZONE CELERY_ENABLE_UTC CELERY_CHORD_PROPAGATES
CELERY_DISABLE_RATE_LIMITS CELERY_STORE_ERRORS_EVEN_IF_IGNORED CELERYD_POOL_RESTARTS
CELERYD_MAX_TASKS_PER_CHILD CELERYD_HIJACK_ROOT_LOGGER CELERYBEAT_SCHEDULE CELERYBEAT_SCHEDULER
CELERYBEAT_SCHEDULE_REDIS_URL CELERYBEAT_SCHEDULE_REDIS_PREFIX CELERY_ALWAYS_EAGER
CELERY_EAGER_PROPAGATES_EXCEPTIONS CELERY_ANNOTATIONS CELERYD_CONCURRENCY CELERYD_PREFETCH_MULTIPLIER
CELERY_RESULT_BACKEND CELERY_RESULT_SERIALIZER CELERY_QUEUES CELERY_ROUTES CELERY_QUEUE_HA_POLICY
CELERY_WORKER_DIRECT CELERY_CREATE_MISSING_QUEUES CELERY_IGNORE_RESULT CELERY_MESSAGE_COMPRESSION
BROKER_URL BROKER_TRANSPORT BROKER_TRANSPORT_OPTIONS BROKER_FAILOVER_STRATEGY BROKER_HEARTBEAT
BROKER_HEARTBEAT_CHECKRATE BROKER_USE_SSL BROKER_POOL_LIMIT BROKER_CONNECTION_TIMEOUT
BROKER_CONNECTION_RETRY BROKER_CONNECTION_MAX_RETRIES BROKER_LOGIN_METHOD
""".split()

FOLDER = Path(__file__).parent
TESTS = re.findall(
    r"^def test_(\w+)\(", "".join(path.read_text() for path in sorted(FOLDER.glob("test_*.py"))), re.MULTILINE
)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test(row: int) -> None:
    assert [name for name in TESTS if name.startswith(f"row_{row:02}_")]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_has_a_test_of_its_name(setting: str) -> None:
    assert f"setting_{setting.lower()}" in TESTS


def test_no_test_is_of_a_row_or_setting_that_is_not_listed() -> None:
    rows = {int(name[4:6]) for name in TESTS if name.startswith("row_")}
    known = tuple(f"setting_{name.lower()}" for name in SETTINGS)
    others = [name for name in TESTS if name.startswith("setting_") and not name.startswith(known)]
    assert (rows, others) == (set(ROWS), [])
