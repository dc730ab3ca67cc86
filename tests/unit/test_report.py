"""The figures of a run, and the page that is made of them."""

from __future__ import annotations

import builtins
import json
import re
from html.parser import HTMLParser

import pytest

from altcraft_async import LineStatusUpdate, MissingExtraError, Outcome, OutcomeState, Report
from altcraft_async.errors import ConnectError, InvalidUpdateError, RunStoppedError, api_error
from altcraft_async.report import Bucket, Figures, Level, Place, Recording, page
from altcraft_async.report.course import Course
from altcraft_async.report.reasons import Reasons, place_of
from altcraft_async.report.recording import Collection
from altcraft_async.report.words import answers, counted, latency, paced, share, span

APPLIED, REJECTED, UNKNOWN = OutcomeState.APPLIED, OutcomeState.REJECTED, OutcomeState.UNKNOWN
EVIL = "<script>alert('x')</script>"


def applied(index, elapsed=0.1, attempts=1):
    update = LineStatusUpdate(f"order_{index}", "1", "delivered")
    return Outcome(index, update, APPLIED, attempts, elapsed, f"id-{index}")


def rejected(index, text, order=None, code=400):
    update = LineStatusUpdate(order or f"order_{index}", "1", "delivered")
    error = api_error(status=code, code=code, text=text)
    return Outcome(index, update, REJECTED, 1, 0.1, f"id-{index}", error)


def bucket(start, width=1, outage=0.0, **ended):
    states = {OutcomeState(state): count for state, count in ended.items()}
    level = Level(10, 10)
    return Bucket(
        start=start,
        width=width,
        ended=states,
        sent=sum(ended.values()),
        throttled=int(outage * 3),
        latencies={30: sum(ended.values())} if ended else {},
        limit=level,
        in_flight=level,
        outage=outage,
    )


def reasons_of(*outcomes):
    reasons = Reasons()
    for outcome in outcomes:
        reasons.add(outcome, place_of(outcome))
    return reasons.found()


# -- reasons


def test_failures_with_one_reason_are_one_although_each_text_names_its_order():
    (reason,) = reasons_of(*(rejected(index, f"there is no order 'order_{index}'") for index in range(50)))
    assert (reason.count, reason.text, reason.quoted) == (50, "there is no order '…'", True)
    assert (reason.state, reason.error, reason.code) == (REJECTED, "BadRequestError", 400)
    assert [place.index for place in reason.first] == [0, 1, 2]
    assert "correct it" in reason.remedy


def test_a_list_of_what_there_is_makes_no_reason_of_its_own():
    texts = [f"no line '1'; its 2 lines are 'a{index}', 'b, {index}'" for index in range(20)]
    (reason,) = reasons_of(*(rejected(index, text) for index, text in enumerate(texts)))
    assert (reason.count, reason.text) == (20, "no line '…'; its 2 lines are '…'")


def test_the_first_rows_are_the_first_of_the_input_in_whatever_order_they_ended():
    (reason,) = reasons_of(*(rejected(index, "no") for index in (9, 4, 7, 1, 8, 2)))
    assert [place.index for place in reason.first] == [1, 2, 4]


def test_an_id_is_left_out_only_where_it_stands_by_itself():
    (reason,) = reasons_of(rejected(0, "40: order 40 of 400 is not 40x, a_40 nor 40", order="40"))
    assert reason.text == "…: order … of 400 is not 40x, a_40 nor …"


def test_reasons_differ_by_state_class_code_and_text_and_the_most_frequent_comes_first():
    lost = Outcome(7, None, UNKNOWN, 3, 1.0, "id", ConnectError("nothing listens there"))
    found = reasons_of(rejected(1, "a"), rejected(2, "b"), lost, rejected(3, "b"), rejected(4, "b", code=402))
    assert [(reason.text, reason.code, reason.count) for reason in found] == [
        ("b", 400, 2),
        ("a", 400, 1),
        ("b", 402, 1),
        ("nothing listens there", None, 1),
    ]


def test_texts_without_end_are_lumped_together_and_counted_all_the_same():
    found = reasons_of(*(rejected(index, f"error {index * 7919}") for index in range(1000)))
    assert len(found) == 9
    assert sum(reason.count for reason in found) == 1000
    assert found[0].text == "other texts, each different"
    assert found[0].remedy


def test_kinds_without_end_are_lumped_together_and_counted_all_the_same():
    reasons = Reasons()
    for index in range(5000):
        outcome = rejected(index, "no", code=1000 + index)
        reasons.add(outcome, place_of(outcome))
    for code in range(20_000):
        reasons.more_like(REJECTED, "APIError", 10_000 + code, 400, 2)
    found = reasons.found()
    assert len(found) < 210
    assert sum(reason.count for reason in found) == 45_000
    assert found[0].remedy


def test_a_long_text_is_cut():
    (reason,) = reasons_of(rejected(0, "x" * 5000))
    assert len(reason.text) == 301


def test_a_row_that_was_invalid_is_named_by_the_line_that_its_error_knows():
    error = InvalidUpdateError("status_external_id is empty", field="status_external_id", source="u.csv", line=12)
    (reason,) = reasons_of(Outcome(10, None, OutcomeState.INVALID, error=error))
    assert reason.first == (Place(10, 12),)
    assert reason.first[0].where == "line 12"
    assert Place(1_000).where == "row 1,001"


# -- the course


def test_pauses_between_runs_are_left_out_of_a_runs_own_time():
    course = Course.of([*map(bucket, range(4)), *map(bucket, range(1000, 1003))])
    assert course.length == 7
    assert course.pauses == [(4, 996)]
    assert [course.worked(at) for at in (0, 3, 500, 1001, 9999)] == [0, 3, 4, 5, 7]


def test_an_outage_begins_late_in_its_first_bucket_and_ends_early_in_its_last():
    buckets = [bucket(0, 10), bucket(10, 10, outage=2.0), bucket(20, 10, outage=10.0), bucket(30, 10, outage=3.0)]
    assert Course.of(buckets).outages == [(18.0, 33.0)]
    assert Course.of([bucket(0, 10, outage=4.0), bucket(10, 10)]).outages == [(0.0, 4.0)]


# -- figures


def test_a_collection_keeps_counts_the_slowest_and_nothing_that_grows():
    collection = Collection()
    for index in range(500):
        collection.take(applied(index, elapsed=(index * 37 % 500) / 100, attempts=1 + (index % 100 == 0)))
    collection.take(rejected(500, "no"))
    figures = collection.figures()
    assert figures.states == {APPLIED: 500, REJECTED: 1}
    assert figures.attempts == {1: 496, 2: 5}
    assert len(figures.slowest) == 20
    assert [slow.elapsed for slow in figures.slowest[:3]] == [4.99, 4.98, 4.97]
    assert (figures.failed, figures.ok, figures.total) == (1, False, 501)


class Statistics:
    def __init__(self, sent, throttled=0, outage=None):
        self.sent, self.retries, self.throttled, self.outage = sent, 0, throttled, outage
        self.limit = self.in_flight = 8


def test_a_recording_knows_when_things_happened():
    recording = Recording(100.0)
    recording.look(100.0, Statistics(0))
    recording.add(100.5, applied(0))
    recording.look(101.0, Statistics(3, throttled=1, outage=0.2))
    recording.look(102.0, Statistics(4, throttled=1))
    recording.add(102.5, applied(1))
    figures = recording.figures(elapsed=3.0)
    assert [bucket.start for bucket in figures.timeline] == [0, 1, 2]
    assert [sum(bucket.ended.values()) for bucket in figures.timeline] == [1, 0, 1]
    assert [bucket.sent for bucket in figures.timeline] == [3, 1, 0]
    assert (figures.sent, figures.throttled, figures.outage) == (4, 1, 1.0)


def test_the_figures_are_ready_for_json():
    figures = sample()
    known = json.loads(json.dumps(figures.to_dict()))
    assert known["states"] == {"applied": 300, "rejected": 2}
    assert (known["failed"], known["requests"], known["throttled"], known["outage"]) == (2, 310, 6, 2.0)
    assert known["reasons"][0]["count"] == 2
    assert known["reasons"][0]["first"][0] == {
        "index": 7, "line": None, "unit": "line", "subject": f"{EVIL} / 1", "status": "delivered"
    }  # fmt: skip
    assert [bucket["start"] for bucket in known["timeline"]] == [0, 1, 2, 3]
    assert known["timeline"][0]["latency_median"] == pytest.approx(0.0237, rel=0.01)


# -- words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.42, "0.42 s"), (48, "48 s"), (60, "1 min"), (1000, "16 min 40 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_span_has_the_two_units_that_matter(seconds, said):
    assert span(seconds) == said


def test_little_is_not_nothing():
    assert [share(0, 10), share(1, 100_000), share(1, 150), share(1, 2)] == ["0 %", "under 0.1 %", "0.7 %", "50 %"]
    assert [latency(0.0123), latency(2.5), counted(1, "row"), counted(2000, "row")] == [
        "12.3 ms", "2.5 s", "1 row", "2,000 rows"
    ]  # fmt: skip


def test_a_slow_run_has_a_rate_and_what_was_not_sent_is_no_part_of_it():
    assert [paced(0.625, "update"), paced(1.0, "row"), paced(9.6, "row"), paced(1234.5, "row")] == [
        "0.62 updates", "1 row", "10 rows", "1,234 rows"
    ]  # fmt: skip
    assert Figures(states={APPLIED: 5, OutcomeState.NOT_SENT: 500}, elapsed=10.0).rate == 0.5
    assert Figures(states={OutcomeState.NOT_SENT: 500}, elapsed=10.0).rate is None


def test_an_outage_is_never_longer_than_its_run():
    answer = answers(Figures(states={APPLIED: 5}, elapsed=1.0, sent=9, timeline=[bucket(0, outage=1.0)] * 60))[3]
    assert answer.more.startswith("100 % of the time without a server")


def short(**facts):
    return [answer.short for answer in answers(Figures(**facts))]


def test_the_answers_say_first_whether_everything_arrived():
    assert short(states={APPLIED: 5}, sent=5, retries=0, throttled=0, elapsed=2.0) == [
        "Yes, all 5 updates",
        "Nothing failed",
        "2 s",
        "No",
    ]
    assert short(states={APPLIED: 5, REJECTED: 1})[0] == "No: 1 of 6 did not"
    assert short(states={APPLIED: 5, UNKNOWN: 1})[0] == "Perhaps not: 1 of 6 are unknown"
    assert short(states={APPLIED: 5}, waiting=3)[:2] == ["No: the run is not finished", "3 updates without an outcome"]
    assert short(states={APPLIED: 5}, waiting=None, complete=False)[:2] == [
        "No: the run is not finished", "What was not read yet"
    ]  # fmt: skip
    assert short(states={APPLIED: 5}, in_use=True, waiting=None)[0] == "Not yet: 5 updates so far"
    assert short(done_before=5)[0] == "Nothing was left to do"
    assert short(states={APPLIED: 5}, stopped="the token was refused")[1] == "What was not sent any more"


def test_the_answers_say_whether_the_server_was_in_the_way():
    counts = {"states": {APPLIED: 100}, "elapsed": 20.0, "retries": 0}
    assert short(**counts, sent=100, throttled=1)[3] == "Hardly"
    assert short(**counts, sent=100, throttled=50)[3] == "Yes: it throttled 50 %"
    assert short(**counts, sent=100, throttled=0, timeline=[bucket(0, outage=1.0)] * 12)[3] == "Yes: down for 12 s"
    assert short(**counts, sent=None, throttled=None)[3] == "Not recorded"


# -- the page


def sample():
    collection = Collection()
    for index in range(300):
        collection.take(applied(index, attempts=1 + index % 2))
    for index in (7, 8):
        collection.take(rejected(index, f"{EVIL} is no order \u202e\x00 at all", order=EVIL))
    timeline = [
        bucket(0, applied=150),
        bucket(1, outage=1.0),
        bucket(2, outage=1.0),
        bucket(3, applied=150, rejected=2),
    ]
    return collection.figures(
        source=f"{EVIL}.csv", target="https://altcraft.example", began=1_700_000_000.0, elapsed=4.0,
        sent=310, retries=8, throttled=6, timeline=timeline, stopped=EVIL,
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def test_what_comes_from_outside_is_text_and_nothing_else():
    html = page(sample())
    assert EVIL not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in html
    tags = Tags(html)
    assert "script" not in tags.found
    assert not [name for _, name, _ in tags.attributes if name.startswith("on")]


def test_what_nobody_can_see_is_written_as_its_number():
    html = page(sample())
    assert "\\u202e\\u0000 at all" in html
    assert "\u202e" not in html
    assert page(Figures(source="a\udc80b")).encode()


def test_an_id_longer_than_anybody_reads_is_cut_in_the_page():
    collection = Collection()
    collection.take(rejected(0, "no", order="x" * 100_000))
    assert len(page(collection.figures())) < 30_000
    assert len(collection.figures().reasons[0].first[0].subject) > 100_000


def test_what_does_not_change_is_said_without_a_span():
    html = page(sample())
    assert "The limit was 10 requests all the time." in html
    assert "152 updates with 1 attempt; 150 updates with 2 attempts." in html


def test_the_page_loads_nothing():
    tags = Tags(page(sample()))
    links = [value for _, name, value in tags.attributes if name in {"src", "href", "xlink:href", "action", "data"}]
    assert set(links) == {"data:,", "#main"}
    assert not re.search(r"url\((?!#)|@import", page(sample()))
    assert ("meta", "http-equiv", "Content-Security-Policy") in tags.attributes


def test_every_picture_is_said_in_words_and_no_id_stands_twice():
    tags = Tags(page(sample()))
    labels = [value for tag, name, value in tags.attributes if (tag, name) == ("div", "aria-label")]
    assert len(labels) == 12  # with those of the two tables
    assert len([value for _, _, value in tags.attributes if value == "img"]) == 10
    assert "Updates per second. At most 152 updates ended in a second, after 3 s." in labels[0]
    assert "Nobody was served from 1 s to 3 s." in labels[0]
    ids = [value for _, name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    clips = {value[5:-1] for _, name, value in tags.attributes if name == "clip-path"}
    assert clips <= set(ids)


def test_the_same_figures_make_the_same_page():
    assert page(sample()) == page(sample())


def test_a_page_without_a_timeline_says_so():
    html = page(Figures(states={APPLIED: 3}))
    assert "Nobody looked at the run while it went on" in html
    assert "<svg" not in html


@pytest.mark.parametrize(
    "figures", [Figures(), Figures(timeline=[bucket(0)]), Figures(timeline=[bucket(0), bucket(1)])]
)
def test_a_run_of_nothing_has_a_page_too(figures):
    assert "There was no update to send" in page(figures)


def test_more_reasons_than_fit_are_counted():
    collection = Collection()
    for code in range(30):
        collection.take(rejected(code, "no", code=600 + code))
    html = page(collection.figures())
    assert "And 10 more reasons, of 10 updates" in html


def test_without_the_extra_the_error_names_it(monkeypatch):
    usual = builtins.__import__

    def without(name, *rest, **more):
        if name == "ziaplot":
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"altcraft-async\[report\]"):
        page(Figures())


def test_a_report_without_a_course_has_figures_and_a_page():
    outcomes = [applied(0), Outcome(1, None, OutcomeState.NOT_SENT, error=RunStoppedError("stopped"))]
    report = Report(outcomes=outcomes, elapsed=1.5, sent=1, retries=0, throttled=0)
    figures = report.figures(source="updates.csv")
    assert (figures.total, figures.failed, figures.sent, figures.noun) == (2, 1, 1, "update")
    assert "updates.csv" in report.to_html(source="updates.csv")
