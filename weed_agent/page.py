"""The worker's page: what /status tells, for somebody with a browser. Pure: the document in, HTML out.

One static page without script, image or outside asset, which the browser asks for again by itself. It holds no form,
and its links lead to itself alone: nothing on it changes anything. `?open=TYPE` unfolds the volumes that the last look
for work of that type passed over, and so outlasts the refresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote

from weed_core.text import escaped, first_of, size_text, time_text

REFRESH, REFRESH_OPEN = 5, 60
"""Seconds after which the browser asks again; longer where somebody reads a long list."""

RESULTS, WAITING = 15, 10
"""Ends of jobs, and jobs that wait, that are listed; the newest and the next ones."""

Html = str
"""Text that is HTML already; everything else goes through _text."""

STATES = {
    "idle": ("ready, nothing to do", "good"),
    "active": ("working", "good"),
    "busy": ("working, every slot is taken", "good"),
    "paused": ("paused", "soon"),
    "draining": ("stopping", "soon"),
    "disconnected": ("not connected to its admin", "now"),
}

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --dim: #5d666f; --line: #d9dee3; --card: #f6f8fa;
  --good: #17703a; --soon: #8a5a00; --now: #b3261e; --bar: #2f6fdb; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --ink: #e4e8ec; --dim: #9aa5af; --line: #333a41;
  --card: #1c2126; --good: #5fce8b; --soon: #e6b450; --now: #ff8a80; --bar: #6ea2ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 74rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
a { color: inherit; }
.dim { color: var(--dim); } .good { color: var(--good); } .soon { color: var(--soon); } .now { color: var(--now); }
.state { font-weight: 600; }
.job { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem;
  margin: .4rem 0; }
progress { width: 100%; height: .7rem; accent-color: var(--bar); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: 500; font-size: .85rem; white-space: nowrap; }
td.figure, th.figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.whole { white-space: nowrap; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 42rem) {
  thead { display: none; } table, tbody, tr, td.dim, td.whole { display: block; width: 100%; }
  tr { border-bottom: 1px solid var(--line); padding: .35rem 0; }
  td, td.figure { display: inline-block; border: 0; padding: 0 .6rem 0 0; text-align: left; }
  td[data-head]::before { content: attr(data-head) " "; color: var(--dim); font-size: .85rem; }
  dl { grid-template-columns: 1fr; } dt { margin-top: .3rem; }
}
"""


def render(status: Mapping[str, Any], query: str = "") -> Html:
    """The page of a status document, with what the query asks to unfold."""
    opened = next(iter(parse_qs(query).get("open", [])), "")
    opened = opened if opened in status["looks"] else ""
    parts = [
        _head(status),
        *_running(status),
        *_waiting(status),
        *_read_only(status),
        *_left(status),
        *_missing(status),
        *_results(status),
        *_looks(status, opened),
        *_about(status),
    ]
    refresh, title = REFRESH_OPEN if opened else REFRESH, f"{status['id']}: {_state(status)[0]}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{refresh}"><title>{_text(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


# ---- sections


def _head(status: Mapping[str, Any]) -> Html:
    words, how = _state(status)
    if reason := status["reason"]:
        words += f": {reason}"
    if status["paused"] and not status["stops_by"]:
        words += " (until the pause file is removed)"
    if status["stops_by"]:
        words += f"; takes no new work, and has stopped by {_clock(status['stops_by'], status)}"
    jobs = (
        f"{_jobs(status)} running, {len(status['waiting'])} waiting, {status['tasks_completed']} done, "
        f"{status['tasks_failed']} failed since the start {time_text(status['uptime_seconds'])} ago"
    )
    left = len(status["to_undo"]), status["results_to_deliver"]
    jobs += "" if any(left) else "; nothing left to undo or deliver"
    return (
        f'<header><h1>{_text(status["id"])} <span class="dim">on {_text(status["address"])}</span></h1>\n'
        f'<p class="state {how}">{_text(words)}</p>\n<p>{_text(jobs)}</p>\n'
        f'<p class="dim">as of {_text(_clock(status["time"], status))} UTC, as all times here</p></header>'
    )


def _state(status: Mapping[str, Any]) -> tuple[str, str]:
    return STATES.get(status["state"], (str(status["state"]), "soon"))


def _jobs(status: Mapping[str, Any]) -> int:
    return sum(job["kind"] == "execution" for job in status["running"])


def _running(status: Mapping[str, Any]) -> Iterator[Html]:
    yield f"<h2>Running ({status['current_load']} of {status['max_load']} slots)</h2>"
    if not status["running"]:
        yield '<p class="dim">nothing</p>'
    for job in status["running"]:
        if job["kind"] == "detection":
            yield f'<div class="job"><p>{_text(job["text"])}</p></div>'
            continue
        figures = [f"{job['progress']:.0%}", f"for {time_text(job['seconds'])}"]
        figures += [f"{size_text(job['moved_bytes'])} so far"] if job["moved_bytes"] else []
        figures += [f"{size_text(job['bytes_per_second'])}/s"] if job["bytes_per_second"] else []
        figures += [f"about {time_text(job['seconds_left'])} left"] if job["seconds_left"] is not None else []
        closed = [one["text"] for one in status["read_only"] if one["job"] == job["id"]]
        yield (
            f'<div class="job"><p><strong>{_text(job["text"])}</strong>: {_text(job["stage"])}</p>'
            f'<progress max="1" value="{job["progress"]}" aria-label="{_text(job["text"])}"></progress>'
            f"<p>{_text(', '.join(figures))}</p>"
            + "".join(f'<p class="soon">{_text(words)}</p>' for words in closed)
            + f'<p class="dim">{_text(job["id"])}</p></div>'
        )


def _waiting(status: Mapping[str, Any]) -> Iterator[Html]:
    waiting = status["waiting"]
    if waiting:
        yield f"<h2>Waiting ({len(waiting)})</h2>"
        yield from (f"<p>{_text(job['text'])}</p>" for job in waiting[:WAITING])
        if len(waiting) > WAITING:
            yield f'<p class="dim">and {len(waiting) - WAITING} more</p>'


def _read_only(status: Mapping[str, Any]) -> Iterator[Html]:
    closed = status["read_only"]
    if closed:
        yield f"<h2>Kept read-only ({len(closed)})</h2>"
        for one in closed:
            since = f", since {_clock(one['since'], status)}" if one["since"] else ""
            yield f"<p>{_text(one['text'])}{_text(since)}, for {_text(one['type'])}</p>"


def _left(status: Mapping[str, Any]) -> Iterator[Html]:
    undo, owed = status["to_undo"], status["results_to_deliver"]
    if not undo and not owed:
        return
    yield "<h2>Left to undo or deliver</h2>"
    for words in undo:
        yield f'<p class="soon">to undo: what a killed {_text(words)} left; no job runs there until then</p>'
    if owed:
        results = "1 result of a job that has" if owed == 1 else f"{owed} results of jobs that have"
        yield f"<p>to deliver: {results} ended; kept here until the admin has it for sure</p>"


def _missing(status: Mapping[str, Any]) -> Iterator[Html]:
    if status["missing_servers"]:
        yield "<h2>Volume servers that are gone</h2>"
    for missing in status["missing_servers"]:
        gone, fewer = len(missing["no_copy"]), len(missing["fewer"])
        words = f"{missing['server']}, last seen {_clock(missing['seen'], status)}: "
        words += f"{gone} volumes have no copy now, {fewer} have fewer"
        yield f'<p class="{"now" if gone else "soon"}">{_text(words)}</p>'


def _results(status: Mapping[str, Any]) -> Iterator[Html]:
    yield "<h2>Last results</h2>"
    ended = status["ended"][:RESULTS]
    if not ended:
        yield '<p class="dim">none yet</p>'
        return
    rows = []
    for one in ended:
        gains = ", ".join(f"{size_text(size)} {word}" for word, size in one["gains_bytes"].items()) or "-"
        how = {"done": "good", "failed": "now"}.get(one["outcome"], "soon")
        what = f"{one['type']} {_volumes(one)}"
        rows.append(
            [
                ("whole", "", _text(_clock(one["at"], status))),
                ("", "", _text(what)),
                ("", "", f'<span class="{how}">{_text(one["outcome"])}</span>'),
                ("figure", "took", _text(time_text(one["seconds"]))),
                ("figure", "", _text(gains)),
                ("dim", "", _text(one["text"])),
            ]
        )
    yield _table(("Ended", "What", "Outcome", "Took", "Bytes", "Said"), rows)


def _volumes(one: Mapping[str, Any]) -> str:
    ids = one["volumes"]
    return first_of(ids, 5) + (f" ({one['collection']})" if one["collection"] else "")


def _looks(status: Mapping[str, Any], opened: str) -> Iterator[Html]:
    yield "<h2>Looked for work</h2>"
    rows = []
    for name in status["capabilities"]:
        window = status["windows"].get(name)
        hours = f"window {window['hours']}, {'open' if window['open'] else 'closed'}" if window else ""
        look = status["looks"].get(name)
        if look is None:
            words, at, to_do, over = hours or "not looked yet", "-", "-", "-"
        else:
            at, to_do = _clock(look["at"], status), "-" if look["error"] else str(look["to_do"])
            reasons = [f"{count} {reason}" for reason, count in look["passed_over"].items()]
            words = "; ".join(
                filter(None, (look["error"] and f"failed: {look['error']}", *reasons, look["summary"], hours))
            )
            over = str(sum(look["passed_over"].values()))
        link = _text(over)
        if look is not None and look["skipped"]:
            where = "?" if opened == name else f"?open={quote(name)}#{quote(name)}"
            link = f'<a href="{where}">{_text(over)} {"fold" if opened == name else "which"}</a>'
        rows.append(
            [
                ("whole", "", f'<span id="{_text(name)}">{_text(name)}</span>'),
                ("whole", "looked", _text(at)),
                ("figure", "to do", _text(to_do)),
                ("figure", "passed over", link),
                ("dim", "", _text(words)),
            ]
        )
        if opened == name and look is not None:
            rows.append([("unfolded", "", _skipped(look))])
    yield _table(("Job type", "Looked", "To do", "Passed over", "Why"), rows)


def _skipped(look: Mapping[str, Any]) -> Html:
    rows = [
        [
            ("figure", "volume", _text(str(skip["volume"] or "-"))),
            ("", "", _text(skip["collection"] or "-")),
            ("whole", "", _text(skip["server"] or "-")),
            ("", "", _text(skip["reason"])),
        ]
        for skip in look["skipped"]
    ]
    left = sum(look["passed_over"].values()) - len(rows)
    more = f'<p class="dim">and {left} more; weed_worker plan -all lists them</p>' if left > 0 else ""
    return _table(("Volume", "Collection", "Server", "Why it was passed over"), rows) + more


def _about(status: Mapping[str, Any]) -> Iterator[Html]:
    facts = [
        ("Admin", f"{status['admin']} ({status['protocol'] or 'never reached'})"),
        ("Last heartbeat", _clock(status["last_heartbeat"], status) if status["last_heartbeat"] else "none yet"),
        ("Connections", status["tls"]),
        ("Version", status["version"]),
        ("Job types", ", ".join(status["capabilities"])),
    ]
    if status["disk_free_bytes"] >= 0:
        facts.append(("Working directory", f"{size_text(status['disk_free_bytes'])} free"))
    if status["last_error"]["time"]:
        error = status["last_error"]
        facts.append(("Last error", f"{_clock(error['time'], status)}: {error['message']}"))
    yield "<h2>This worker</h2>"
    yield "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in facts) + "</dl>"


# ---- pieces


def _table(heads: Sequence[str], rows: Iterable[Sequence[tuple[str, str, Html]]]) -> Html:
    """A table of cells: (class, what stands before it where there is no room for heads, HTML)."""
    right = {"To do", "Passed over", "Took", "Bytes", "Volume"}
    top = "".join(f'<th scope="col"{" class=figure" if head in right else ""}>{_text(head)}</th>' for head in heads)
    body = []
    for row in rows:
        if len(row) == 1:
            body.append(f'<tr><td colspan="{len(heads)}">{row[0][2]}</td></tr>')
            continue
        cells = (
            f"<td{f' class={kind}' if kind else ''}{f' data-head={chr(34)}{name}{chr(34)}' if name else ''}>{html}</td>"
            for kind, name, html in row
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _clock(moment: str | None, status: Mapping[str, Any]) -> str:
    """A moment of the document: the time of day, and the day where that is not today's."""
    if not moment:
        return "never"
    when, today = (datetime.fromisoformat(text).astimezone(timezone.utc) for text in (moment, status["time"]))
    return f"{when:%H:%M:%S}" if when.date() == today.date() else f"{when:%d %b %H:%M}"


def _text(text: str) -> Html:
    """A text from anywhere, as HTML that shows it and does nothing."""
    return escape(escaped(str(text)))
