"""The report of a drill as one HTML page: it needs no script, no other file and no network."""

from collections.abc import Iterable, Sequence
from html import escape

from app.cli.drill.report import HARMS, Report, Times, outage_sentence, verdict

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #fff;
  --line: #d8dee4; --good: #116329; --bad: #a40e26; --tint: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117;
  --line: #3d444d; --good: #3fb950; --bad: #ff7b72; --tint: #151b23; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); }
.verdict { font-size: 1.15rem; font-weight: 600; margin: 1rem 0; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .5rem;
  margin: 1rem 0; }
dl div { background: var(--tint); border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem .75rem; }
dt { color: var(--soft); font-size: .875rem; } dd { margin: 0; font-size: 1.5rem;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; font-size: .875rem; color: var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .25rem 0; }
"""


def html(report: Report) -> str:
    """Return the page; every text in it is escaped."""
    word = "good" if report.holds else "bad"
    title = f"Drill with seed {report.seed}"
    again = f"The same drill again: <code>{escape(report.command)}</code> {escape(report.note)}"
    rounds = f"{report.rounds} round{'s' if report.rounds != 1 else ''}"
    size = f"{escape(report.database)}, {report.seconds:.0f} s, {rounds}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{size}. {again}</p>',
        f'<p class="verdict {word}">{escape(verdict(report))}</p>',
        _numbers(report),
        _violations(report),
        _recovery(report),
        _faults(report),
        _versions(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _numbers(report: Report) -> str:
    facts = {
        "faults injected": sum(report.faults.values()),
        "of processes": report.kills,
        "at named places": report.placed,
        "orders": report.orders,
        "payments accepted": report.accepted,
        "paid on the PSP's page": report.on_page,
        "without an answer": report.unanswered,
        "webhooks taken": report.webhooks,
    }
    tiles = [_tile(name, count) for name, count in facts.items()]
    for harm, text in HARMS.items():
        count = report.count(harm)
        tiles.append(_tile(text, count, "bad" if count else "good"))
    return f"<dl>{''.join(tiles)}</dl>"


def _tile(name: str, count: int, word: str = "") -> str:
    mark = f' class="{word}"' if word else ""
    return f"<div><dt>{escape(name)}</dt><dd{mark}>{count:,}</dd></div>"


def _violations(report: Report) -> str:
    if not report.violations:
        return f"<p>{escape(report.ledger)}</p>"
    rows = [(one.rule, HARMS[one.harm], one.what) for one in report.violations]
    return "<h2>What does not hold</h2>" + _table(("Rule", "Harm", "Found"), rows)


def _recovery(report: Report) -> str:
    if not report.recovery and report.outage is None:
        return ""
    table = ""
    if report.recovery:
        heads = ("Seconds", "count", "median", "p99", "longest", "limit")
        table = _table(heads, [_times(one) for one in report.recovery], numbers=5)
    said = ""
    if report.outage is not None:
        said = f"<p>{escape(outage_sentence(report.outage))}</p>"
        said += "".join(f'<p class="bad">{escape(one)}</p>' for one in report.outage.untrue)
    return f"<h2>Recovery</h2>{table}{said}"


def _times(one: Times) -> tuple[str, ...]:
    limit = "" if one.limit is None else f"{one.limit:g} {'holds' if one.holds else 'broken'}"
    seconds = (one.median, one.p99, one.longest)
    return (one.kind, str(one.count), *[f"{value:.2f}" for value in seconds], limit)


def _faults(report: Report) -> str:
    rows = [(name, str(count)) for name, count in report.faults.items()]
    plan = "".join(f"<li>{escape(line)}</li>" for line in report.planned)
    return (
        f"<h2>Faults</h2>{_table(('Fault', 'times'), rows, numbers=1)}"
        f"<details><summary>The plan of this seed</summary><ol>{plan}</ol></details>"
    )


def _versions(report: Report) -> str:
    rows = list(report.versions.items())
    return f"<h2>What was drilled</h2>{_table(('Part', 'Version'), rows)}"


def _table(heads: Sequence[str], rows: Iterable[tuple[str, ...]], *, numbers: int = 0) -> str:
    """Return a table; the last `numbers` columns hold numbers."""
    first = len(heads) - numbers

    def line(cells: Sequence[str], tag: str) -> str:
        marks = ['class="number"' if place >= first else "" for place in range(len(cells))]
        return "".join(
            f"<{tag} {mark}>{escape(cell)}</{tag}>".replace(" >", ">")
            for cell, mark in zip(cells, marks, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    head = f"<tr>{line(heads, 'th')}</tr>"
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
