"""Drawings: what they show, that all of it is escaped, and that they stay small."""

from xml.etree import ElementTree

import pytest

from nbq.canvas import Canvas, chain, chord, draw_svg, draw_text, group
from tests.canvas.kit import s

NASTY = "<script>alert('&')</script>"


def test_lines_show_the_shape():
    canvas = chain(s("load", 1), group(s("a"), chain(s("b"), s("c"))), s("join")).set(queue="far")
    assert draw_text(canvas).split("\n") == [
        "chain of 3 [queue=far]",
        "├─ load(1)",
        "├─ group of 2",
        "│  ├─ a()",
        "│  └─ chain of 2",
        "│     ├─ b()",
        "│     └─ c()",
        "└─ join()",
    ]


def test_lines_of_a_chord_show_header_and_body():
    assert draw_text(chord([s("a"), s("b")], s("c"))).split("\n") == [
        "chord",
        "├─ group of 2",
        "│  ├─ a()",
        "│  └─ b()",
        "└─ c()",
    ]


def test_links_and_errbacks_stand_below_what_they_belong_to():
    canvas = chain(s("a").on_error(s("e") | s("f")), group(s("b"), s("c"))).set(link=[s("l", 1), s("m")])
    assert draw_text(canvas).split("\n") == [
        "chain of 2",
        "├─ a()",
        "│  └─ link_error: chain of 2",
        "│     ├─ e()",
        "│     └─ f()",
        "├─ group of 2",
        "│  ├─ b()",
        "│  └─ c()",
        "├─ link: l(1)",
        "└─ link: m()",
    ]
    assert texts(draw_svg(canvas)) == [
        "chain of 2", "a()", "link_error", "e()", "f()", "b()", "c()", "link", "l(1)", "link", "m()",
    ]  # fmt: skip


def test_many_links_are_cut_short():
    canvas = s("a").set(link=[s("l", k) for k in range(1000)])
    shown = ["a()", *(f"├─ link: l({k})" for k in range(4)), "└─ … 996 more"]
    assert draw_text(canvas).split("\n") == shown
    assert len(draw_svg(canvas)) < 4000
    deep = s("t")
    for _ in range(99):
        deep = s("t").set(link=deep)
    assert len(draw_text(deep).split("\n")) == 22
    assert len(draw_svg(deep)) < 20_000


def test_long_canvases_are_cut_short():
    assert draw_text(group(s("t", k) for k in range(10_000))).split("\n") == [
        "group of 10000", "├─ t(0)", "├─ t(1)", "├─ t(2)", "├─ t(3)", "├─ … 9995 more", "└─ t(9999)",
    ]  # fmt: skip
    assert len(draw_svg(group(s("t", k) for k in range(10_000)))) < 3000
    assert len(draw_svg(chain(s("t", k) for k in range(10_000)))) < 3000


def test_deep_canvases_are_cut_short():
    canvas: Canvas = s("t")
    for _ in range(99):
        canvas = group(canvas)
    assert len(draw_text(canvas).split("\n")) == 22
    assert draw_text(canvas).endswith("└─ …")
    assert len(draw_svg(canvas)) < 10_000


def test_a_long_label_is_cut_short():
    [line] = draw_text(s("t" * 500).set(queue="q")).split("\n")
    assert line == "t" * 59 + "…"
    assert len(draw_svg(s("t" * 500))) < 1500


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.text]


@pytest.mark.parametrize(
    "canvas",
    [
        s(NASTY),
        s("t", NASTY),
        s("t", a=NASTY),
        s("t").set(queue=NASTY),
        group(s(NASTY)),
        chain(s("a"), s(NASTY)),
    ],
)
def test_what_users_wrote_is_escaped(canvas):
    svg = draw_svg(canvas)
    assert "<script" not in svg
    assert any("<script>" in text for text in texts(svg))


def test_a_drawing_is_one_svg_element_of_its_size():
    root = ElementTree.fromstring(draw_svg(chain(s("ab"), s("c"))))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("109", "30", "-1 -1 109 30")
    assert texts(draw_svg(chain(s("ab"), s("c")))) == ["chain of 2", "ab()", "c()"]


def test_every_canvas_draws_itself_in_a_notebook():
    for canvas in (
        s("t"),
        group(s("t")),
        chain(s("t")),
        chord([s("t")], s("u")),
        group(),
        chain(),
        chord([]),
    ):
        assert canvas._repr_svg_() == draw_svg(canvas)
        ElementTree.fromstring(canvas._repr_svg_())
