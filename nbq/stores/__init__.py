"""Result stores beside the hub's own: values in Redis, memcached, SQL databases, files and buckets.

What lies in them is sealed like all payloads: a store can lose a value or withhold it, and cannot forge one.
The hub never comes here; its journal stays the truth and holds the name of each value.
"""

from nbq.stores.base import Backend, ResultStore
from nbq.stores.choose import open_store

__all__ = ["Backend", "ResultStore", "open_store"]
