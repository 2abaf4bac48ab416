"""Every setting of Celery has a row that says its name here, and every setting of nbq has its row."""

from __future__ import annotations

import re

import msgspec

from nbq.configuration import Settings
from tests.project.tree import ROOT

OLD_NAMES = """
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

SETTINGS = {field.name for field in msgspec.structs.fields(Settings)}
_ROW = re.compile(r"^\| ([A-Z_]{6,}) \| (?:`(\w+)`|none) \| (\S.{15,}) \|$", re.MULTILINE)


def test_every_old_setting_has_its_row() -> None:
    rows = _ROW.findall((ROOT / "docs/celery.md").read_text())
    assert [name for name, _, _ in rows] == OLD_NAMES


def test_what_a_row_names_is_a_setting() -> None:
    rows = _ROW.findall((ROOT / "docs/celery.md").read_text())
    assert {setting for _, setting, _ in rows if setting} - SETTINGS == set()


def test_the_guide_has_every_setting_and_no_other() -> None:
    text = (ROOT / "docs/guide/configuration.md").read_text()
    table = text[text.index("## All settings") : text.index("## Where calls go")]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(SETTINGS)
