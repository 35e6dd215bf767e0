"""The page as a reader gets it: what it holds, and how a real browser shows it."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import pytest
from synthetic_runs import (
    accuracy,
    end_to_end,
    layers,
    measurement,
    offered,
    power,
    row,
    whole_rows,
    write_bench,
    write_recipe_run,
)

pytest.importorskip("matplotlib", reason="needs the extra report")
pytest.importorskip("jinja2", reason="needs the extra report")

from slimdeploy.records import Report
from slimdeploy.report.build import report_from
from slimdeploy.report.html import as_html
from slimdeploy.report.write import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
HOSTILE = "</title><script>alert(1)</script>$x^2$ \"'&"
LOOK = """
const result = {};
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, table = page.getElementById("models");
    const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent.replace("◆", "").trim());
    const sorted = title => {
      [...page.querySelectorAll("#models th")].find(head => head.textContent === title).click();
      return names();
    };
    const by = (id, title) => {
      const grid = page.getElementById(id);
      [...grid.querySelectorAll("th")].find(head => head.textContent === title).click();
      return [...grid.tBodies[0].rows].map(row => row.cells[0].textContent.trim());
    };
    const height = element => element.getBoundingClientRect().height;
    const colour = (element, what) => frame.contentWindow.getComputedStyle(element)[what];
    result[frame.id] = {
      layers: by("table-layers", "dense %"), slowFrames: by("table-end-to-end", "p50 ms"),
      asWritten: names(), fewest: sorted("parameters"), fastest: sorted("p50 ms"), slowest: sorted("p50 ms"),
      plots: [...page.querySelectorAll(".plots figure")].map(one => [one.id, height(one.querySelector("svg"))]),
      scenes: [...page.querySelectorAll(".scene")].map(scene => [...scene.querySelectorAll("figure")].map(one => ({
        told: one.querySelector("figcaption").textContent, height: height(one.querySelector("svg")),
        top: one.getBoundingClientRect().top, boxes: one.querySelectorAll("rect").length,
        picture: height(one.querySelector("image, use")),
      }))),
      overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
      ground: colour(page.body, "backgroundColor"), headline: colour(page.querySelector(".headline"), "color"),
      words: [...page.querySelectorAll("svg text")].map(one => colour(one, "fill")),
      lines: [...page.querySelectorAll("#latency svg path")].map(one => colour(one, "stroke")),
    };
  }
  const out = document.createElement("pre");
  out.textContent = JSON.stringify(result);
  document.body.replaceChildren(out);
});
"""


def everything(plain, scale):
    """Return a row with all that a bench can measure beside the bare session."""
    whole, camera = end_to_end(plain.name, 0.1 * scale), offered(0.05 * scale)
    more = {"end_to_end": whole, "offered": camera, "power": (power(),), "layers": layers(scale)}
    return dataclasses.replace(plain, **more)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    first, *others, last = whole_rows()
    rows = [
        everything(first, 1.0),
        *others[:-1],
        everything(others[-1], 0.5),
        last,
        row("untimed", scored=accuracy(0.5)),
    ]
    return as_html(report_from([write_recipe_run(tmp_path_factory.mktemp("page") / "run", rows)]))


def look(page, folder, *flags):
    """Open a page in a browser, wide and as on a phone; return what its script saw and what the console said."""
    frames = "".join(
        f'<iframe id="{name}" srcdoc="{html.escape(page)}" style="width: {width}px; height: 900px"></iframe>'
        for name, width in (("wide", 1280), ("phone", 375))
    )
    place = folder / "look.html"
    place.write_text(f"<meta charset=utf-8><script>{LOOK}</script>{frames}", encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", place.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    seen = re.search("<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert seen, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(seen.group(1))), console


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request, page, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    scheme = "--blink-settings=preferredColorScheme=" + {"dark": "0", "light": "1"}[request.param]
    result, console = look(page, tmp_path_factory.mktemp("browser"), scheme)
    return {**result, "console": console, "scheme": request.param}


def luminance(colour):
    channels = [int(one) / 255 for one in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_browser_reports_no_errors(seen):
    assert seen["console"] == []


def test_every_plot_is_drawn(seen):
    plots = dict(seen["wide"]["plots"])
    assert set(plots) == {
        "scatter", "latency", "end-to-end", "offered", "power-0", "operators", "modules", "widths-0", "precision",
        "confusion", "training-0", "gammas-0",
    }  # fmt: skip
    assert min(plots.values()) > 100  # pixels


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_the_order(seen):
    table = seen["wide"]
    assert table["asWritten"] == ["dense", "sparse", "pruned", "tuned", "tuned-fp16", "untimed"]
    assert set(table["fewest"][:3]) == {"pruned", "tuned", "tuned-fp16"}
    assert table["fastest"][0] == "tuned-fp16"
    assert table["slowest"][:2] == ["sparse", "dense"]


def test_the_further_tables_sort_too(seen):
    assert seen["wide"]["slowFrames"] == ["tuned", "dense"]
    assert seen["wide"]["layers"] == ["Reorder_7", "/model.0/act/Mul", "/model.0/conv/Conv", "/model.22/cv2.0/Conv"]


def test_what_was_not_measured_is_sorted_last_both_ways(seen):
    assert seen["wide"]["fastest"][-1] == seen["wide"]["slowest"][-1] == "untimed"


def test_the_page_fits_a_phone(seen):
    assert seen["phone"]["overflow"] <= 0


def test_scenes_show_both_models_on_the_same_picture(seen):
    for scene in seen["wide"]["scenes"]:
        dense, tuned = scene
        assert (dense["told"], tuned["told"]) == (
            "dense 2 right, 1 wrong, 1 missed", "tuned 2 right, 1 wrong, 1 missed",
        )  # fmt: skip
        assert dense["boxes"] == tuned["boxes"] == 4
        assert dense["picture"] == pytest.approx(tuned["picture"], abs=1)
        assert dense["picture"] > 100
        assert dense["top"] == tuned["top"]
    assert len(seen["wide"]["scenes"]) == 2


def test_on_a_phone_the_two_models_stand_below_each_other(seen):
    for dense, tuned in seen["phone"]["scenes"]:
        assert tuned["top"] >= dense["top"] + dense["height"]


def test_text_and_plots_stand_out_from_the_ground_in_light_and_dark(seen):
    ground = seen["wide"]["ground"]
    assert (luminance(ground) > 0.5) == (seen["scheme"] == "light")
    assert contrast(ground, seen["wide"]["headline"]) > 7
    assert min(contrast(ground, one) for one in seen["wide"]["words"]) > 4.5
    drawn = {one for one in seen["wide"]["lines"] if one.startswith("rgb(")}
    assert len([one for one in drawn if contrast(ground, one) > 3]) >= 5  # a colour for each timed model


def test_the_page_loads_nothing(page):
    assert not re.findall(r"""https?://|@import|<link[^>]+stylesheet|url\((?!#)|src=|srcset=""", page)
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'href="([^"]*)"', page))
    assert "default-src 'none'" in page


def test_the_page_is_below_3_mb(page):
    assert len(page.encode()) < 3_000_000


def test_a_long_measurement_of_many_models_stays_below_3_mb(tmp_path):
    rows = [
        row(f"m{i}", scored=accuracy(0.5), latency=measurement(f"m{i}", 0.01 + i / 1000, samples=5000))
        for i in range(20)
    ]
    assert len(as_html(report_from([write_bench(tmp_path / "bench", rows)])).encode()) < 3_000_000


def test_ids_are_unique_in_the_page(page):
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_report_gives_the_same_page(tmp_path):
    report = report_from([write_recipe_run(tmp_path / "run")])
    assert as_html(report) == as_html(report)


def test_names_from_users_are_text_and_nothing_else(tmp_path):
    rows = [dataclasses.replace(one, name=f"{HOSTILE} {i}", file=HOSTILE) for i, one in enumerate(whole_rows())]
    folder = write_bench(tmp_path / "bench", rows, title=HOSTILE, notes=[HOSTILE])
    page = as_html(report_from([folder]))
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "$x^2$" in page.split('id="latency"')[1]  # a name, not a formula


def test_rendered_scenes_are_named_as_such(tmp_path):
    page = as_html(report_from([write_bench(tmp_path / "bench", whole_rows(rendered=True))]))
    assert "rendered scenes, not photographs" in re.search('class="headline">(.*?)</p>', page).group(1)


def test_a_report_without_any_measurement_still_makes_a_page():
    page = as_html(Report(title="bare", rows=(row("dense"),)))
    assert "latency not measured" in page
    assert "<figure" not in page


def test_power_is_drawn_where_a_meter_was_read_and_each_meter_apart(tmp_path):
    rows = [
        row("dense", power=(power(), power(meter="nvml"))), row("tuned", power=(power(mean_w=5.0),)),
    ]  # fmt: skip
    page = as_html(report_from([write_bench(tmp_path / "bench", rows)]))
    assert re.findall(r'<figure id="([^"]+)"', page) == ["power-0", "power-1"]
    assert page.split('id="table-power"')[1].count(">0.0500<") == 3


def test_what_was_not_measured_is_neither_drawn_nor_tabled(tmp_path):
    page = as_html(report_from([write_bench(tmp_path / "bench", whole_rows())]))
    for name in ("power-", "offered", "end-to-end", "operators", "modules", "table-"):
        assert f'id="{name}' not in page


def test_every_form_is_written(tmp_path):
    report = report_from([write_recipe_run(tmp_path / "run")])
    written = write_report(report, tmp_path)
    assert [path.name for path in written] == ["report.html", "report.md", "report.json", "gammas.png"]
    assert (tmp_path / "gammas.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_without_sparsity_training_there_is_no_gamma_picture(tmp_path):
    report = report_from([write_bench(tmp_path / "bench", whole_rows())])
    assert "gammas.png" not in [path.name for path in write_report(report, tmp_path)]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["検出器", "детектор"], id="letters that the plot's font lacks"),
        pytest.param(["x" * 300, "y"], id="a name of 300 letters"),
    ],
)
def test_any_name_can_be_drawn(names):
    rows = tuple(row(name, scored=accuracy(0.5), latency=measurement(name, 0.1)) for name in names)
    assert names[1] in as_html(Report(title="t", rows=rows))
