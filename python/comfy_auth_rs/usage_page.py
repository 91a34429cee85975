"""The sums of audit logs as one page: plots, each beside its table, and no script.

Text from an audit log only gets into the page through elements, which escape it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from string import Template
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from comfy_auth_rs import __version__
from comfy_auth_rs.usage import Row, Sums, Tally, Window, legible, rows, total

__all__ = ["clock", "render"]

_TEMPLATE = Path(__file__).parent / "static" / "usage.html"

_Content: TypeAlias = "Element | str"

#: How many keys have a colour of their own; the others share one.
_COLOURS = 6
#: How many bars can be told apart, even on paper.
_MOST_BARS = 62
_MOST_KEYS = 15

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

_NOBODY = "no valid key"


def render(tally: Tally, window: Window, now: datetime | None = None) -> str:
    """The whole page, as a self-contained file."""
    everything, keys, users = total(tally), rows(tally, "key"), rows(tally, "user")
    spans = _spans(tally, window)
    sections = [_tiles(everything, keys)]
    if spans:
        sections += _over_time(tally, keys, spans)
        sections.append(_by_key(keys, everything))
    if any(row.user for row in users):
        sections.append(_by_user(users, everything))
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        period=_text(_period(spans, window)),
        sections="\n".join(tostring(section, encoding="unicode", method="html") for section in sections),
        notes="\n".join(tostring(note, encoding="unicode", method="html") for note in _notes(tally)),
        version=_text(__version__),
        made=_text(f"{now or datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"),
        lines=_text(f"{tally.lines:,}"),
    )


def clock(milliseconds: int) -> str:
    """A duration as hours, minutes and seconds, like on a clock."""
    minutes, seconds = divmod((milliseconds + 500) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{seconds:02}"


# --- elements ---------------------------------------------------------------------------------------------------


def _e(tag: str, *content: _Content, **attributes: str) -> Element:
    """An element. Underscores in attribute names become dashes, `class_` becomes `class`."""
    element = Element(tag, {name.rstrip("_").replace("_", "-"): legible(text) for name, text in attributes.items()})
    last: Element | None = None
    for part in content:
        if not isinstance(part, str):
            element.append(part)
            last = part
        elif last is None:
            element.text = (element.text or "") + legible(part)
        else:
            last.tail = (last.tail or "") + legible(part)
    return element


def _text(text: str) -> str:
    return tostring(_e("x", text), encoding="unicode", method="html")[len("<x>") : -len("</x>")]


def _table(caption: str, head: Sequence[_Content], lines: Sequence[Sequence[_Content]], names: int = 1) -> Element:
    """A table that scrolls if it is too wide.

    The first columns are names, the others figures. The last line is the sum of the others.
    """

    def row(line: Sequence[_Content]) -> Element:
        title, *cells = line
        return _e(
            "tr",
            _e("th", title, scope="row"),
            *(_cell("td", cell, number < names) for number, cell in enumerate(cells, 1)),
        )

    table = _e(
        "table",
        _e("caption", caption),
        _e("thead", _e("tr", *(_cell("th", name, number < names, scope="col") for number, name in enumerate(head)))),
        _e("tbody", *map(row, lines[:-1])),
        _e("tfoot", row(lines[-1])),
    )
    return _e("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"Table: {caption}")


def _cell(tag: str, content: _Content, is_name: bool, **attributes: str) -> Element:
    return _e(tag, content, **attributes, **({"class_": "name"} if is_name else {}))


# --- spans of time ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spans:
    """The time that one bar stands for: a day, a week, a month or a year."""

    unit: str
    starts: list[date]
    first: date
    last: date
    start_of: Callable[[date], date]

    def name(self, start: date) -> str:
        """The name of one span in a table."""
        if self.unit == "week":
            return f"{start.isoformat()} to {date.fromordinal(min(start.toordinal() + 6, date.max.toordinal()))}"
        return start.isoformat()[: {"day": 10, "month": 7, "year": 4}[self.unit]]

    def short(self, start: date) -> str:
        """The name of one span below its bar."""
        month = _MONTHS[start.month - 1]
        if self.unit == "year":
            return str(start.year)
        return f"{month} {start.year}" if self.unit == "month" else f"{start.day} {month}"


def _spans(tally: Tally, window: Window) -> _Spans | None:
    days = sorted({date.fromisoformat(day) for day, _, _ in tally.cells})
    if not days:
        return None
    first, last = days[0], days[-1]
    if window.since:
        first = min(first, date.fromisoformat(window.since[:10]))
    if window.until:
        # The moment itself is not in it: midnight is the end of the day before.
        until = date.fromisoformat(window.until[:10])
        last = max(last, until - timedelta(days=1) if window.until[10:] == "T00:00:00.000Z" else until)
    length = (last - first).days + 1
    if length <= _MOST_BARS:
        unit, start_of = "day", _day
    elif length <= 7 * _MOST_BARS:
        unit, start_of = "week", _week
    elif length <= 30 * _MOST_BARS:
        unit, start_of = "month", _month
    else:
        unit, start_of = "year", _year
    starts = sorted({start_of(date.fromordinal(day)) for day in range(first.toordinal(), last.toordinal() + 1)})
    return _Spans(unit, starts, first, last, start_of)


def _day(day: date) -> date:
    return day


def _week(day: date) -> date:
    return date.fromordinal(max(day.toordinal() - day.weekday(), 1))


def _month(day: date) -> date:
    return day.replace(day=1)


def _year(day: date) -> date:
    return day.replace(month=1, day=1)


def _period(spans: _Spans | None, window: Window) -> str:
    def day(day: date) -> str:
        return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"

    if spans is None:
        since, until = window.since, window.until
        return " ".join(
            (f"since {since}" if since else "", f"until {until}" if until else "")
        ).strip() or "all times"  # fmt: skip
    return day(spans.first) if spans.first == spans.last else f"{day(spans.first)} to {day(spans.last)}"


# --- plots ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Series:
    """One colour of a plot: a figure for each span of time."""

    name: str
    colour: str
    figures: list[int]


def _plot(title: str, spans: _Spans, series: Sequence[_Series], scale: _Scale) -> Element:
    """Stacked bars over time, and a table with the same figures."""
    tops = [sum(one.figures[place] for one in series) for place in range(len(spans.starts))]
    axis = scale.axis(max(tops))
    height, _ = axis[-1]
    drawing = _e(
        "svg",
        _e("title", f"{title}. Most: {scale.say(max(tops))}, {spans.name(spans.starts[tops.index(max(tops))])}."),
        *(_line(len(tops), 100 - 100 * tick / height) for tick, _ in axis),
        *_bars(spans, series, height, scale),
        viewBox=f"0 0 {len(tops)} 100",
        preserveAspectRatio="none",
        role="img",
    )
    plot = _e(
        "div",
        _e(
            "div",
            *(_e("span", name, style=f"bottom:{100 * tick / height:.2f}%") for tick, name in axis),
            class_="scale",
            aria_hidden="true",
        ),
        drawing,
        _e("div", *_marks(spans), class_="marks", aria_hidden="true"),
        class_="plot",
    )
    return _e("figure", _e("figcaption", _e("h2", title)), plot, _legend(series), _figures(title, spans, series, scale))


def _line(width: int, y: float) -> Element:
    return _e("line", x1="0", x2=str(width), y1=f"{y:.2f}", y2=f"{y:.2f}")


def _bars(spans: _Spans, series: Sequence[_Series], height: int, scale: _Scale) -> Iterator[Element]:
    for place, start in enumerate(spans.starts):
        below = 0
        for one in series:
            figure = one.figures[place]
            if figure:
                yield _e(
                    "rect",
                    _e("title", f"{spans.name(start)}, {one.name}: {scale.say(figure)}"),
                    x=f"{place + 0.12:.2f}",
                    y=f"{100 - 100 * (below + figure) / height:.3f}",
                    width="0.76",
                    height=f"{100 * figure / height:.3f}",
                    class_=one.colour,
                )
            below += figure


def _marks(spans: _Spans) -> Iterator[Element]:
    """The names below some of the bars. Small screens hide every second one."""
    count = len(spans.starts)
    step = max(math.ceil(count / 6), 1)
    for number, place in enumerate(range(0, count, step)):
        if place > 0.88 * count:
            return
        mark = _e("span", spans.short(spans.starts[place]), style=f"left:{100 * place / count:.2f}%")
        if number % 2:
            mark.set("class", "second")
        yield mark


def _legend(series: Sequence[_Series]) -> Element:
    if len(series) == 1:
        return _e("p", class_="legend")
    return _e(
        "ul",
        *(_e("li", _e("span", class_=f"swatch {one.colour}"), _e("bdi", one.name)) for one in series),
        class_="legend",
    )


def _figures(title: str, spans: _Spans, series: Sequence[_Series], scale: _Scale) -> Element:
    several = len(series) > 1
    head: list[_Content] = [spans.unit.capitalize()]
    head += [_e("bdi", one.name) for one in series] + (["All"] if several else [])

    def line(name: str, figures: Sequence[int]) -> list[_Content]:
        return [name, *map(scale.cell, figures), *([scale.cell(sum(figures))] if several else [])]

    lines = [
        line(spans.name(start), figures)
        for start, *figures in zip(spans.starts, *(one.figures for one in series), strict=True)
        if any(figures)
    ]
    lines.append(line("Total", [sum(one.figures) for one in series]))
    return _e("details", _e("summary", "Figures"), _table(title, head, lines))


class _Scale:
    """The scale for counts."""

    def axis(self, most: int) -> list[tuple[int, str]]:
        """At most seven round figures from zero to at least `most`, with their labels."""
        return [(figure, self.say(figure)) for figure in self._steps(most, 1)]

    def say(self, figure: int) -> str:
        return f"{figure:,}"

    def cell(self, figure: int) -> str:
        return f"{figure:,}"

    @staticmethod
    def _steps(most: int, unit: int) -> list[int]:
        rough = max(most / unit / 6, 1)
        power = 10 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough) * unit
        return [step * number for number in range(max(math.ceil(most / step), 1) + 1)]


class _Time(_Scale):
    """The scale for milliseconds, shown as hours, minutes or seconds."""

    def axis(self, most: int) -> list[tuple[int, str]]:
        """All labels are in one unit."""
        units = ((3_600_000, "h"), (60_000, "min"), (1000, "s"))
        unit, name = next((pair for pair in units if most >= pair[0]), units[-1])
        return [
            (figure, f"{f'{figure / unit:,.1f}'.removesuffix('.0')} {name}" if figure else "0")
            for figure in self._steps(most, unit // 10)
        ]

    def say(self, figure: int) -> str:
        if figure < 59_950:
            return f"{figure / 1000:.1f} s" if figure >= 50 else "0 s"
        minutes, seconds = divmod((figure + 500) // 1000, 60)
        if minutes < 10:
            return f"{minutes} min {seconds} s"
        hours, minutes = divmod((figure + 30_000) // 60_000, 60)
        return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"

    def cell(self, figure: int) -> str:
        return clock(figure)


# --- sections ---------------------------------------------------------------------------------------------------


def _tiles(everything: Sums, keys: Sequence[Row]) -> Element:
    tiles = [
        (
            "GPU time",
            f"{everything.milliseconds / 3_600_000:,.1f} h",
            _Time().say(everything.milliseconds),
        ),
        ("Prompts", f"{everything.prompts:,}", _share(everything.failed, everything.prompts, "failed")),
        ("Outputs", f"{everything.outputs:,}", _per(everything.outputs, everything.prompts)),
        ("Keys in use", f"{sum(bool(row.key) for row in keys):,}", ""),
        ("Refused", f"{everything.refusals:,}", "requests"),
    ]
    return _e(
        "dl",
        *(
            _e("div", _e("dt", name), _e("dd", value), *([_e("dd", more)] if more else []))
            for name, value, more in tiles
        ),
        class_="tiles",
    )


def _share(part: int, whole: int, what: str) -> str:
    return f"{100 * part / whole:.1f} % {what}" if whole else ""


def _per(part: int, whole: int) -> str:
    return f"{part / whole:.1f} per prompt" if whole else ""


def _over_time(tally: Tally, keys: Sequence[Row], spans: _Spans) -> Iterator[Element]:
    folded: dict[tuple[date, str | None], Sums] = {}
    for (day, key, _), sums in tally.cells.items():
        folded.setdefault((spans.start_of(date.fromisoformat(day)), key), Sums()).add(sums)
    colours = _colours(keys)
    owners = list(dict.fromkeys(colours.values()))

    def series(name: str, colour: str, figure: Callable[[Sums], int], among: str | None = None) -> _Series:
        figures = dict.fromkeys(spans.starts, 0)
        for (start, key), sums in folded.items():
            if among is None or colours.get(key) == among:
                figures[start] += figure(sums)
        return _Series(name, colour, list(figures.values()))

    per = f"per {spans.unit}"
    if any(sums.milliseconds for sums in folded.values()):
        names = {colours[row.key]: _called(row) for row in reversed(keys) if row.key in colours}
        if "others" in names:
            names["others"] = f"{sum(colour == 'others' for colour in colours.values())} others"
        by_key = [series(names[colour], colour, lambda sums: sums.milliseconds, colour) for colour in owners]
        yield _plot(f"GPU time {per}, by key", spans, by_key, _Time())
    if any(sums.prompts for sums in folded.values()):
        ended = [
            series("finished", "good", lambda sums: sums.prompts - sums.failed - sums.interrupted),
            series("interrupted", "stopped", lambda sums: sums.interrupted),
            series("failed", "bad", lambda sums: sums.failed),
        ]
        yield _plot(f"Prompts {per}", spans, [one for one in ended if any(one.figures)], _Scale())
    if any(sums.refusals for sums in folded.values()):
        yield _plot(f"Refused requests {per}", spans, [series("refused", "bad", lambda sums: sums.refusals)], _Scale())


def _colours(keys: Sequence[Row]) -> dict[str | None, str]:
    """A colour for each key that used something, those with the most first."""
    used = [row.key for row in keys if row.sums.milliseconds]
    own = len(used) if len(used) <= _COLOURS + 1 else _COLOURS
    return {key: f"c{place}" if place < min(own, _COLOURS) else "others" for place, key in enumerate(used)}


def _called(row: Row) -> str:
    return row.label or (f"key {row.key[:8]}" if row.key else row.user or _NOBODY)


def _by_key(keys: Sequence[Row], everything: Sums) -> Element:
    """One bar per key, and a table with all figures."""
    used = [row for row in keys if row.sums.milliseconds]
    colours = _colours(keys)
    bars = [(_called(row), row.sums.milliseconds, colours[row.key]) for row in used[:_MOST_KEYS]]
    if rest := used[_MOST_KEYS:]:
        bars.append((f"{len(rest)} others", sum(row.sums.milliseconds for row in rest), "others"))
    most = max((figure for _, figure, _ in bars), default=0)
    content: list[Element] = [_e("figcaption", _e("h2", "GPU time by key"))]
    if bars:
        content.append(_e("ul", *(_bar(name, figure, colour, most) for name, figure, colour in bars), class_="bars"))
    lines: list[list[_Content]] = [
        [_e("bdi", _called(row)), _e("bdi", row.user or ""), *_cells(row.sums), row.key[:8] if row.key else ""]
        for row in keys
    ]
    lines.append(["Total", "", *_cells(everything), ""])
    content.append(_table("Use by key", ["Key", "User", *_HEAD, "Id"], lines, names=2))
    return _e("figure", *content)


def _bar(name: str, figure: int, colour: str, most: int) -> Element:
    bar = _e(
        "svg",
        _e("rect", width=f"{100 * figure / most:.2f}%", height="100%", class_=colour),
        width="100%",
        height="14",
        aria_hidden="true",
    )
    return _e("li", _e("bdi", name), _e("span", _Time().say(figure)), bar)


def _by_user(users: Sequence[Row], everything: Sums) -> Element:
    lines: list[list[_Content]] = [[_e("bdi", row.user or _called(row)), *_cells(row.sums)] for row in users]
    lines.append(["Total", *_cells(everything)])
    return _e("section", _e("h2", "By user"), _table("Use by user", ["User", *_HEAD], lines))


_HEAD = ["GPU time", "Prompts", "Failed", "Outputs", "Refused", "First seen", "Last seen"]


def _cells(sums: Sums) -> list[str]:
    return [
        clock(sums.milliseconds), f"{sums.prompts:,}", f"{sums.failed:,}", f"{sums.outputs:,}", f"{sums.refusals:,}",
        sums.first[:10], sums.last[:10],
    ]  # fmt: skip


def _notes(tally: Tally) -> Iterator[Element]:
    if lost := total(tally).unfinished:
        yield _e("p", f"Not counted as prompts: {lost:,} that were lost when the server stopped.")
    if skipped := tally.no_json + tally.no_event + tally.halves:
        yield _e("p", f"Lines that could not be read and are not counted: {skipped:,}.")
    if lost := sum(tally.dropped.values()):
        yield _e("p", f"Lines that the server could not write and that are missing here: {lost:,}.")
