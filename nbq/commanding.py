"""What a client tells engines: to end, to begin anew, to have more slots or fewer. A part of ``Client``.

Orders pass through the hub, which answers when they are on their way. What an engine makes of them is seen by
looking; those who want to wait for that say for how long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nbq import wire
from nbq.core.views import EngineView
from nbq.errors import WaitTimeout
from nbq.operations import Verb
from nbq.seeing import Seeing

__all__ = ["Commanding"]

_LOOK_S = 0.05


class Commanding(Seeing):
    """The orders of a client to engines.

    Each is for one engine, by its name or as ``engines()`` shows it; an empty name means all. Each returns
    how many engines were told.
    """

    def drain(self, engine: str | EngineView, wait: float = 0.0) -> int:
        """Let an engine finish what it runs, give back the rest, and end.

        Args:
            engine: Which.
            wait: Up to how many seconds to wait until it has ended.

        Raises:
            UnknownEngine: There is none of this name.
            WaitTimeout: It has not ended in time; it still will.
        """
        return self._end(engine, "drain", wait)

    def stop(self, engine: str | EngineView, wait: float = 0.0) -> int:
        """Let an engine end at once: what it runs is run again by others. Else as ``drain``."""
        return self._end(engine, "stop", wait)

    def restart(self, engine: str | EngineView, wait: float = 0.0) -> int:
        """Let an engine finish what it runs, then begin anew, with the nbq that is installed by then.

        Args:
            engine: Which.
            wait: Up to how many seconds to wait until it is back.

        Raises:
            UnknownEngine: There is none of this name.
            Refused: It lives inside another process.
            WaitTimeout: It is not back in time; it still will be.
        """
        before = self._meant(engine) if wait else []
        count = self._order(engine, "restart")
        names = {view.info.name for view in before}
        old = {view.id for view in before}

        def back() -> bool:
            up = {view.info.name for view in self.engines() if view.state == "up" and view.id not in old}
            return names <= up

        self._until(back, wait, f"engines {', '.join(sorted(names))} to be back")
        return count

    def reload(self, engine: str | EngineView = "") -> int:
        """Let fresh processes take the places of an engine's slots, so that they import modules anew.

        Each goes on until another is ready in its place and it has finished what it runs; where none comes
        up, because a module has an error, the one that is there stays.

        Args:
            engine: Which; all unless told.

        Raises:
            UnknownEngine: There is none of this name.
            Refused: It lives inside another process.
        """
        return self._order(engine, "reload")

    def scale(self, engine: str | EngineView, slots: int, wait: float = 0.0) -> int:
        """Let an engine have so many slots, and no bounds any more.

        Slots that are too many finish what they run.

        Args:
            engine: Which.
            slots: How many, at least one.
            wait: Up to how many seconds to wait until the hub knows of them.

        Raises:
            UnknownEngine: There is none of this name.
            Refused: There cannot be so many.
            WaitTimeout: The engine did not say so in time.
        """
        count = self._order(engine, "scale", slots)
        if wait:
            told = [view.id for view in self._meant(engine)]

            def scaled() -> bool:
                return all(view.info.slots == slots for view in self.engines() if view.id in told)

            self._until(scaled, wait, f"{slots} slots")
        return count

    def autoscale(self, engine: str | EngineView, least: int, most: int) -> int:
        """Let the hub scale an engine by the work that waits, within bounds.

        Args:
            engine: Which.
            least: How many slots it has when nothing is to be done; at least one.
            most: How many it has at most.

        Raises:
            UnknownEngine: There is none of this name.
            Refused: These are no bounds.
        """
        return self._order(engine, "scale", 0, least, most)

    def _end(self, engine: str | EngineView, verb: Verb, wait: float) -> int:
        told = {view.id for view in self._meant(engine)} if wait else set()
        count = self._order(engine, verb)
        here = "the engine" if count == 1 else f"{count} engines"
        self._until(lambda: told.isdisjoint(view.id for view in self.engines()), wait, f"{here} to end")
        return count

    def _order(
        self, engine: str | EngineView, verb: Verb, slots: int = 0, least: int = 0, most: int = 0
    ) -> int:
        name = engine if isinstance(engine, str) else engine.info.name
        return self._link.answer(wire.SteerEngine(0, name, verb, slots, least, most)).count

    def _meant(self, engine: str | EngineView) -> Sequence[EngineView]:
        name = engine if isinstance(engine, str) else engine.info.name
        return [view for view in self.engines() if name in ("", view.info.name) and view.state != "gone"]

    def _until(self, condition: Callable[[], bool], wait: float, what: str) -> None:
        """Look until a condition holds, for at most ``wait`` seconds; not at all for none."""
        until_s = time.monotonic() + wait
        while wait and not condition():
            if time.monotonic() > until_s:
                raise WaitTimeout(f"waited {wait:g} s in vain for {what}")
            time.sleep(_LOOK_S)
