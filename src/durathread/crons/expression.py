"""When a cron is due: a cron expression in a time zone.

Changes of clocks are as in cron(8): a time of the day that they skip comes at the change, and one that they repeat comes
once; what comes every so many minutes or hours goes by the clock, as it is shown.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from durathread.errors import Invalid
from durathread.records import Cron

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
PART = re.compile(r"(?:(?P<any>\*)|(?P<low>[0-9a-z]+)(?:-(?P<high>[0-9a-z]+))?)(?:/(?P<step>[0-9]{1,4}))?")
DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Temporal's calendars end there.
LAST_YEAR = 2100

Values = frozenset[int]


@dataclass(frozen=True)
class Field:
    """A field of an expression: what it counts, from where to where, and the names that its numbers have."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    # Sunday is also 7.
    highest: int = 0

    @property
    def every(self) -> Values:
        """All that the field can be."""
        return frozenset(range(self.least, self.most + 1))

    def parse(self, text: str) -> Values:
        """Read `*`, numbers, names, ranges and steps, or a list of these.

        Raises:
            Invalid: it is none of that.
        """
        span = self.most - self.least + 1
        found = (value for part in text.split(",") for value in self._part(part, span))
        return frozenset(self.least + (value - self.least) % span for value in found)

    def _part(self, text: str, span: int) -> Iterable[int]:
        found = PART.fullmatch(text)
        if found is None:
            raise Invalid(f"schedule: '{text}' is not a {self.name}")
        step = int(found["step"] or 1)
        if not 1 <= step <= self.most:
            raise Invalid(f"schedule: the step of '{text}' is not between 1 and {self.most}")
        low = self.least if found["any"] else self._number(found["low"])
        if found["high"]:
            high = self._number(found["high"])
            # Over the end: 22-2 are the hours of a night.
            high += span if high < low else 0
        else:
            high = max(low, self.most) if found["any"] or found["step"] else low
        return range(low, high + 1, step)

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.least + self.names.index(text)
        most = self.highest or self.most
        if not text.isdecimal() or not self.least <= int(text) <= most:
            raise Invalid(f"schedule: '{text}' is not a {self.name}: {self.least} to {most}")
        return int(text)


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of the month", 1, 31)
MONTH = Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
WEEKDAY = Field("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"), highest=7)


@dataclass(frozen=True)
class Calendar:
    """Times on a wall clock: those that match every field."""

    seconds: Values
    minutes: Values
    hours: Values
    days: Values
    months: Values
    weekdays: Values

    def has(self, day: date) -> bool:
        """Say whether a day matches, its month aside."""
        return day.day in self.days and day.isoweekday() % 7 in self.weekdays


@dataclass(frozen=True)
class Timetable:
    """The times that match any of some calendars, which differ only in their days."""

    expression: str
    zone: ZoneInfo
    calendars: tuple[Calendar, ...]
    # Whether it names times of the day, and not every so many minutes or hours.
    fixed: bool

    @classmethod
    def parse(cls, expression: str, timezone: str | None = None) -> "Timetable":
        """Read an expression of five fields, or of six with the seconds last, in an IANA time zone; UTC without one.

        Raises:
            Invalid: one of them cannot be read, or never comes.
        """
        texts = ALIASES.get(expression.strip().lower(), expression.lower()).split()
        if len(texts) not in (5, 6):
            raise Invalid(
                f"schedule: '{expression}' is not a cron expression: it needs five fields, or six with seconds"
            )
        minute, hour, day, month, weekday, second = texts if len(texts) == 6 else (*texts, "0")
        # As in cron: with both days restricted, either will do.
        either = not day.startswith(("*", "?")) and not weekday.startswith(("*", "?"))
        days, weekdays = DAY.parse("*" if day == "?" else day), WEEKDAY.parse("*" if weekday == "?" else weekday)
        months = MONTH.parse(month)
        if not either and all(min(days) > DAYS_IN_MONTH[number - 1] for number in months):
            raise Invalid(f"schedule: '{expression}' never comes: no such month has that day")
        clock = (SECOND.parse(second), MINUTE.parse(minute), HOUR.parse(hour))
        pairs = ((days, WEEKDAY.every), (DAY.every, weekdays)) if either else ((days, weekdays),)
        calendars = tuple(Calendar(*clock, days=on, months=months, weekdays=of) for on, of in pairs)
        return cls(
            expression, _zone(timezone or "UTC"), calendars, fixed=not any("*" in text for text in (minute, hour))
        )

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, in UTC; None if there is none in this century."""
        at = int(moment.timestamp()) + 1
        while (local := datetime.fromtimestamp(at, self.zone)).year <= LAST_YEAR:
            onward = at if self.fixed and self._skipped(local, at) else self._onward(local, at)
            if onward == at:
                return datetime.fromtimestamp(at, UTC)
            at = max(onward, at + 1)
        return None

    def upcoming(self, moment: datetime, most: int) -> list[datetime]:
        """List the first times after a moment, in UTC."""
        found = list[datetime]()
        while len(found) < most and (following := self.after(found[-1] if found else moment)):
            found.append(following)
        return found

    def _onward(self, local: datetime, at: int) -> int:
        """Return how far to look on, as a Unix time; the time itself if it matches."""
        calendar, day = self.calendars[0], local.date()
        if local.month not in calendar.months:
            return self._midnight((day.replace(day=1) + timedelta(days=31)).replace(day=1))
        if not any(each.has(day) for each in self.calendars):
            return self._midnight(day + timedelta(days=1))
        if local.hour not in calendar.hours or (self.fixed and local.fold):
            return at + 3600 - local.minute * 60 - local.second
        if local.minute not in calendar.minutes:
            return at + 60 - local.second
        return at if local.second in calendar.seconds else at + 1

    def _skipped(self, local: datetime, at: int) -> bool:
        """Say whether the clocks went forward just now, over a time that matches."""
        wall = local.replace(tzinfo=None)
        passed = datetime.fromtimestamp(at - 1, self.zone).replace(tzinfo=None) + timedelta(seconds=1)
        while passed < wall:
            calendar = self.calendars[0]
            if (
                passed.hour in calendar.hours and passed.minute in calendar.minutes and passed.month in calendar.months
            ) and any(each.has(passed.date()) for each in self.calendars):
                return True
            passed += timedelta(minutes=1)
        return False

    def _midnight(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp())


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    if name not in _zones():
        raise Invalid(f"timezone: '{name}' is not an IANA time zone, such as Europe/Berlin")
    return ZoneInfo(name)


def next_run_date(cron: Cron, now: datetime) -> datetime | None:
    """Return when a cron is due next; None if it is disabled or has ended.

    Raises:
        Invalid: its schedule or its time zone cannot be read.
    """
    timetable = Timetable.parse(cron.schedule, cron.timezone)
    found = timetable.after(now) if cron.enabled else None
    return None if found is None or (cron.end_time and found > cron.end_time) else found
