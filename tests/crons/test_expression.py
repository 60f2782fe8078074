"""Cron expressions: what is one, and when it is due."""

from datetime import UTC, datetime

import pytest

from durathread.crons.expression import Timetable
from durathread.errors import Invalid

# A Monday.
START = datetime(2026, 11, 23, 6, 46, 30, tzinfo=UTC)


def due(expression: str, timezone: str | None = None, *, after: datetime = START, most: int = 4) -> list[str]:
    """List the next times: month, day and time in UTC, and the seconds if there are any."""
    found = Timetable.parse(expression, timezone).upcoming(after, most)
    return [time.strftime("%m-%d %H:%M:%S").removesuffix(":00") for time in found]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 * * * *", ["11-23 06:50", "11-23 06:55", "11-23 07:00", "11-23 07:05"]),
        ("*/25 7 * * *", ["11-23 07:00", "11-23 07:25", "11-23 07:50", "11-24 07:00"]),
        ("50/5 * * * *", ["11-23 06:50", "11-23 06:55", "11-23 07:50", "11-23 07:55"]),
        ("10-30/10,5 8 * * *", ["11-23 08:05", "11-23 08:10", "11-23 08:20", "11-23 08:30"]),
        ("0 22-1 * * *", ["11-23 22:00", "11-23 23:00", "11-24 00:00", "11-24 01:00"]),
        ("0 9 * * mon-fri", ["11-23 09:00", "11-24 09:00", "11-25 09:00", "11-26 09:00"]),
        ("0 9 * * SAT-Sun", ["11-28 09:00", "11-29 09:00", "12-05 09:00", "12-06 09:00"]),
        ("0 9 * * 5-7", ["11-27 09:00", "11-28 09:00", "11-29 09:00", "12-04 09:00"]),
        ("0 9 * * 0", ["11-29 09:00", "12-06 09:00", "12-13 09:00", "12-20 09:00"]),
        ("0 9 * * 7", ["11-29 09:00", "12-06 09:00", "12-13 09:00", "12-20 09:00"]),
        ("0 0 1 jan,Jul *", ["01-01 00:00", "07-01 00:00", "01-01 00:00", "07-01 00:00"]),
        ("0 0 ? * 1", ["11-30 00:00", "12-07 00:00", "12-14 00:00", "12-21 00:00"]),
        ("* * * * * */20", ["11-23 06:46:40", "11-23 06:47", "11-23 06:47:20", "11-23 06:47:40"]),
        ("0 12 * * * 5,10", ["11-23 12:00:05", "11-23 12:00:10", "11-24 12:00:05", "11-24 12:00:10"]),
        ("@daily", ["11-24 00:00", "11-25 00:00", "11-26 00:00", "11-27 00:00"]),
        ("@Yearly", ["01-01 00:00", "01-01 00:00", "01-01 00:00", "01-01 00:00"]),
        (" 0  9\t* * * ", ["11-23 09:00", "11-24 09:00", "11-25 09:00", "11-26 09:00"]),
    ],
)
def test_an_expression_is_due_when_it_says(expression: str, expected: list[str]) -> None:
    assert due(expression) == expected


def test_of_two_restricted_days_either_will_do() -> None:
    assert due("0 0 13 * 5", most=5) == ["11-27 00:00", "12-04 00:00", "12-11 00:00", "12-13 00:00", "12-18 00:00"]


def test_a_day_that_begins_with_a_star_restricts_the_other() -> None:
    assert due("0 0 */2 * 1") == ["12-07 00:00", "12-21 00:00", "01-11 00:00", "01-25 00:00"]
    assert due("0 0 1 * */3", most=3) == ["05-01 00:00", "08-01 00:00", "09-01 00:00"]


def test_the_leap_day_is_waited_for() -> None:
    found = Timetable.parse("0 0 29 2 *").upcoming(START, 2)
    assert found == [datetime(2028, 2, 29, tzinfo=UTC), datetime(2032, 2, 29, tzinfo=UTC)]


def test_a_time_that_is_due_now_is_not_next() -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert Timetable.parse("0 12 * * *").after(noon) == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert Timetable.parse("0 12 * * *").after(noon.replace(hour=11, minute=59, second=59, microsecond=999999)) == noon


def test_no_time_of_the_next_century_is_found() -> None:
    assert Timetable.parse("0 0 * * *").after(datetime(2100, 12, 31, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "expected"),
    [
        # Summer begins: 02:00 CET is 03:00 CEST, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00", ["03-28 01:00", "03-29 00:30"]),
        ("0 3 * * *", "Europe/Berlin", "2027-03-27T12:00", ["03-28 01:00", "03-29 01:00"]),
        ("30 1,2 * * *", "Europe/Berlin", "2027-03-27T12:00", ["03-28 00:30", "03-28 01:00", "03-28 23:30"]),
        ("*/30 * * * *", "Europe/Berlin", "2027-03-28T00:00", ["03-28 00:30", "03-28 01:00", "03-28 01:30"]),
        # Summer ends: 03:00 CEST is 02:00 CET, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00", ["10-31 00:30", "11-01 01:30"]),
        ("45 1 * * *", "Europe/Berlin", "2027-10-30T12:00", ["10-30 23:45", "11-01 00:45"]),
        ("0 3 * * *", "Europe/Berlin", "2027-10-30T12:00", ["10-31 02:00", "11-01 02:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2027-10-31T00:00", ["10-31 00:30", "10-31 01:00", "10-31 01:30"]),
        ("30 1 * * *", "America/New_York", "2027-11-06T12:00", ["11-07 05:30", "11-08 06:30"]),
        ("30 2 * * *", "America/New_York", "2027-03-13T12:00", ["03-14 07:00", "03-15 06:30"]),
        # Midnight is skipped there, and 23:00 comes twice.
        ("0 0 * * *", "America/Santiago", "2027-09-04T12:00", ["09-05 04:00", "09-06 03:00"]),
        ("30 23 * * 6", "America/Santiago", "2027-04-03T12:00", ["04-04 02:30", "04-11 03:30"]),
        # Clocks change by half an hour.
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T10:00", ["10-02 15:30", "10-03 15:15"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T10:00", ["04-03 14:45", "04-04 15:15"]),
        ("0 0 * * *", "Asia/Kathmandu", "2027-01-01T00:00", ["01-01 18:15", "01-02 18:15"]),
    ],
)
def test_clocks_change_as_cron_says(expression: str, timezone: str, after: str, expected: list[str]) -> None:
    assert due(expression, timezone, after=moment(after), most=len(expected)) == expected


@pytest.mark.parametrize(
    "expression",
    [
        *("", "a", "* * * *", "* * * * * * *", "@reboot", "@every 5m"),
        *(
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * 0 *",
            "* * * * 8",
            "* * * * * 60",
        ),
        *("*/0 * * * *", "*/60 * * * *", "1/ * * * *", "*-5 * * * *", "1-2-3 * * * *", "-1 * * * *", "1.5 * * * *"),
        *("1,,2 * * * *", ", * * * *", "? * * * *", "mon * * * *", "* * * mon *", "* * * * jan", "٣ * * * *"),
        *("0 0 l * *", "0 0 * * 1#2", "h * * * *", "0 0 31 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 ?"),
    ],
)
def test_what_is_not_an_expression_is_refused(expression: str) -> None:
    with pytest.raises(Invalid, match="schedule: "):
        Timetable.parse(expression)


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "europe/berlin", "../etc/passwd", "/etc/localtime", "UTC+1", " "])
def test_what_is_not_a_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(Invalid, match="timezone: "):
        Timetable.parse("* * * * *", timezone)
